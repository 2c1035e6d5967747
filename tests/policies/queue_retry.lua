-- Retry times by tenant, and limits of a whole queue.
local kumo = require 'kumo'

local tenants = {
  bank = { max_age = '20 minutes', retry_interval = '1m', max_message_rate = '200/s' },
  shop = { max_age = '3 days', max_retry_interval = '4h', egress_pool = 'shop' },
}

kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  local options = tenants[tenant] or {}
  options.refresh_interval = '2m'
  options.refresh_strategy = 'Epoch'
  options.reap_interval = '15m'
  options.provider_name = 'default'
  options.strategy = 'TimerWheel'
  options.timerwheel_tick_interval = '5s'
  return kumo.make_queue_config(options)
end)
