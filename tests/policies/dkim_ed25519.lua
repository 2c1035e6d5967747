-- Two signatures; the key of one comes from an event.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  kumo.dkim.set_signing_threads(2)
end)

kumo.on('fetch.dkim.key', function(domain, selector)
  local file = kumo.fs.open('data/ed25519.key', 'r')
  local key = file:read()
  file:close()
  return key
end)

kumo.on('smtp_server_message_received', function(msg)
  for _, selector in ipairs { 'ed1', 'ed2' } do
    msg:dkim_sign(kumo.dkim.ed25519_signer {
      domain = 'example.com',
      selector = selector,
      headers = { 'From', 'Subject' },
      key = { event_name = 'fetch.dkim.key', event_args = { 'example.com', selector } },
    })
  end
end)
