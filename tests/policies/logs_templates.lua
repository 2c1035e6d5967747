-- A log as text of one's own.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.configure_local_logs {
    log_dir = '/var/log/example-text',
    per_record = {
      Delivery = {
        template = '{{ timestamp }} {{ id }} {{ recipient }} {{ response.code }} {{ log_record.site }}',
        segment_header = 'time id recipient code site\n',
      },
      Bounce = { template = 'bounce {{ log_record | tojson }}' },
      Any = { enable = false },
    },
  }
end)
