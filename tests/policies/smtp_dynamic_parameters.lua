-- Another name and certificate for each address that clients connect to.
local kumo = require 'kumo'

local names = kumo.cidr.make_map { ['192.0.2.0/28'] = 'blue.example.com', ['192.0.2.16/28'] = 'green.example.com' }

kumo.on('smtp_server_get_dynamic_parameters', function(listener, conn_meta)
  local name = names[conn_meta:get_meta 'received_via' or '192.0.2.1']
  if not name then
    return
  end
  return {
    hostname = name,
    tls_certificate = 'data/' .. name .. '.pem',
    tls_private_key = { key_data = 'key of ' .. name },
    invalid_line_endings = 'Allow',
  }
end)
