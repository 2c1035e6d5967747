-- Bounces and complaints that come as messages.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  local bounce = msg:parse_rfc3464()
  if bounce then
    kumo.log_info(bounce.per_message.reporting_mta.name, #bounce.per_recipient)
  end
  local complaint = msg:parse_rfc5965()
  if complaint then
    kumo.log_info(complaint.feedback_type, complaint.user_agent, complaint.reported_domain)
    msg:set_meta('queue', 'null')
  end
end)
