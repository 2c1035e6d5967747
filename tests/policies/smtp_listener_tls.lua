-- Two listeners that share a certificate; one asks for certificates of clients, one speaks TLS from the first byte.
local kumo = require 'kumo'

kumo.on('init', function()
  for _, listener in ipairs {
    { listen = '127.0.0.1:0', tls_required_client_ca = 'data/ca.pem' },
    { listen = '[::1]:0', implicit_tls = true },
  } do
    listener.tls_certificate = 'data/server.pem'
    listener.tls_private_key = { event_name = 'tls.key', event_args = { 'server' } }
    kumo.start_esmtp_listener(listener)
  end
end)

kumo.on('tls.key', function(name)
  return 'the private key of ' .. name
end)
