-- Sources behind HAProxy and SOCKS5, and what happens when an address is not there.
local kumo = require 'kumo'

kumo.on('get_egress_source', function(source_name)
  if source_name == 'ha' then
    return kumo.make_egress_source {
      name = source_name,
      ha_proxy_server = '10.0.0.1:5000',
      ha_proxy_source_address = '192.0.2.21',
      suspend_when_proxy_unhealthy = { trigger = { Threshold = '3/5min' }, duration = '10m' },
    }
  end
  return kumo.make_egress_source {
    name = source_name,
    socks5_proxy_server = '10.0.0.2:1080',
    socks5_proxy_source_address = '192.0.2.22',
    socks5_proxy_username = 'relay',
    socks5_proxy_password = { key_data = 'hush' },
    suspend_when_unplumbed = { trigger = 'Immediate', duration = '5m' },
  }
end)

kumo.on('validate_config', function()
  assert(kumo.invoke_get_egress_source('ha').ha_proxy_server == '10.0.0.1:5000')
  assert(kumo.invoke_get_egress_source('socks').socks5_proxy_username == 'relay')
end)
