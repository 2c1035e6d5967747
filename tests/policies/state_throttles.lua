-- Throttles by name.
local kumo = require 'kumo'

kumo.on('validate_config', function()
  local throttle = kumo.make_throttle('example', 'local:2/hr,max_burst=2')
  assert(not throttle:throttle().throttled and not throttle:sleep_if_throttled())
  local refused = throttle:throttle()
  assert(refused.throttled and refused.limit == 2 and refused.remaining == 0 and refused.retry_after)
  kumo.log_info(throttle:explain())
end)

kumo.on('smtp_server_message_received', function(msg)
  local throttle = kumo.make_throttle('recipients-' .. msg:recipient_list()[1].domain, '1000/min')
  if throttle:delay_message_if_throttled(msg) then
    kumo.log_info('later', msg:id())
  end
end)
