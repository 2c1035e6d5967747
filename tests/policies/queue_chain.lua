-- Several handlers in turn: the first that returns something wins.
local kumo = require 'kumo'

kumo.on('get_queue_config', function(domain)
  if domain == 'first.example' then
    return kumo.make_queue_config { max_age = 60 }
  end
end)

kumo.on('get_queue_config', function(domain, tenant, campaign)
  local made = kumo.make_queue_config { max_age = '1h', retry_interval = 90 }
  assert(made.max_age == '1h')
  return made
end)

kumo.on('validate_config', function()
  assert(kumo.invoke_get_queue_config('first.example').max_age == '1m')
  assert(kumo.invoke_get_queue_config('news:shop@second.example').retry_interval == '1m 30s')
  assert(#kumo.get_event_registrars 'get_queue_config' == 2)
end)
