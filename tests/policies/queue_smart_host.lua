-- Everything to a few hosts, by name and by address, whatever the domain.
local kumo = require 'kumo'

kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  if routing_domain then
    return kumo.make_queue_config { protocol = { smtp = { mx_list = { routing_domain } } } }
  end
  return kumo.make_queue_config {
    protocol = {
      smtp = {
        mx_list = { 'relay.example.net', 'relay.example.net:2525', '[192.0.2.80]', { name = 'mx', addr = '192.0.2.81' } },
        treat_mx_list_as_secure = true,
      },
    },
  }
end)

kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('routing_domain', 'relay.example.net')
  assert(msg:queue_name():find '!relay%.example%.net$')
end)
