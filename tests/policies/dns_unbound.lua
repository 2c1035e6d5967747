-- A validating resolver on this host.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  kumo.dns.configure_unbound_resolver { name_servers = { '127.0.0.1:53' }, options = { validate = true } }
  local found = kumo.dns.load_resolv_conf 'data/resolv.conf'
  assert(found.name_servers[1].socket_addr or found.name_servers[1])
end)
