-- What may happen to a message while it waits.
local kumo = require 'kumo'

kumo.on('throttle_insert_ready_queue', function(msg)
  local throttle = kumo.make_throttle('tenant-' .. (msg:get_meta 'tenant' or 'none'), 'local:60/min,max_burst=5')
  throttle:delay_message_if_throttled(msg)
end)

kumo.on('requeue_message', function(msg, response, insert_context, increment_attempts, delay)
  kumo.log_info(response, #insert_context, increment_attempts, delay and delay.human)
  if msg:num_attempts() > 3 then
    msg:set_meta('routing_domain', 'last-resort.example')
  end
  if delay and delay.seconds > 86400 then
    kumo.reject(551, 'not worth a day')
  end
end)

kumo.on('rebind_message', function(msg, data)
  for key, value in pairs(data) do
    msg:set_meta(key, value)
  end
end)

kumo.on('smtp_client_rewrite_delivery_status', function(response, domain, tenant, campaign, routing_domain)
  if response:find 'mailbox full' and domain == 'slow.example' then
    return 450
  end
end)
