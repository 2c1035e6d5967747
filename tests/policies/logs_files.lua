-- The delivery log, with what is added, left out and kept apart.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.configure_local_logs {
    log_dir = '/var/log/example',
    max_file_size = 50 * 1000 * 1000,
    max_segment_duration = '1 minute',
    compression_level = 3,
    back_pressure = 1000,
    meta = { 'tenant', 'x_*' },
    headers = { 'Subject', 'List-*' },
    min_free_space = '3%',
    min_free_inodes = '1%',
    filter_event = 'log.this',
    per_record = {
      Reception = { enable = false },
      Delivery = { suffix = '.ok', log_dir = '/var/log/example/delivered' },
      Any = { suffix = '.other' },
    },
  }
end)

kumo.on('log.this', function(msg)
  local record = kumo.serde.json_parse(msg:get_data())
  return record.type ~= 'Delayed'
end)
