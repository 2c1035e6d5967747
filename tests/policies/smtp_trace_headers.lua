-- What the message tells of its way.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0',
    trace_headers = {
      received_header = true,
      supplemental_header = true,
      header_name = 'X-Example-Trace',
      include_meta_names = { 'tenant', 'campaign' },
    },
  }
end)

kumo.on('smtp_server_message_received', function(msg)
  kumo.apply_supplemental_trace_header(msg)
  kumo.apply_supplemental_trace_header(msg, { header_name = 'X-Second-Trace', include_meta_names = { 'tenant' } })
  assert(msg:get_first_named_header_value 'X-Second-Trace')
end)
