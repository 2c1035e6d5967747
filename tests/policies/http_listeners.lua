-- The HTTP API, plain and with TLS.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0', trusted_hosts = { '127.0.0.1', '10.0.0.0/8' } }
  kumo.start_http_listener {
    listen = '[::1]:0',
    hostname = 'api.example.com',
    use_tls = true,
    tls_certificate = 'data/server.pem',
    tls_private_key = 'data/server.key',
    request_body_limit = 32 * 1024 * 1024,
  }
  kumo.set_httpinject_recipient_rate_limit '1,000/s'
  kumo.set_httpinject_recipient_rate_limit(nil)
end)
