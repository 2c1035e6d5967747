-- Each record as a message to a web hook.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.configure_log_hook {
    name = 'webhook',
    headers = { 'Subject', 'X-*' },
    meta = { 'tenant' },
    back_pressure = 50000,
    deferred_spool = true,
    per_record = { Any = { enable = true }, Rejection = { enable = false } },
  }
end)

kumo.on('should_enqueue_log_record', function(msg, hook_name)
  local record = msg:get_meta 'log_record'
  if hook_name == 'webhook' then
    msg:set_meta('queue', record and record.type == 'Feedback' and 'feedback.hook' or 'webhook')
    return true
  end
end)

kumo.on('get_queue_config', function(domain)
  if domain == 'webhook' then
    return kumo.make_queue_config {
      protocol = { custom_lua = { constructor = 'make.webhook', batch_size = 10 } },
    }
  end
end)

kumo.on('make.webhook', function()
  local connection = {}
  function connection:send_batch(messages)
    local records = {}
    for _, msg in ipairs(messages) do
      table.insert(records, kumo.serde.json_parse(msg:get_data()))
    end
    return kumo.serde.json_encode_pretty { count = #records, records = records }
  end
  return connection
end)
