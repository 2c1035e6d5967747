-- Signs with the domain of From, each domain with a key of its own.
local kumo = require 'kumo'

local function signer(domain)
  return kumo.dkim.rsa_sha256_signer {
    domain = domain,
    selector = 'rsa2027',
    headers = { 'From', 'To', 'Subject', 'Date', 'Message-ID' },
    key = 'data/rsa.key',
    header_canonicalization = 'Relaxed',
    body_canonicalization = 'Simple',
    expiration = 7 * 86400,
    over_sign = true,
    ttl = '10m',
  }
end

kumo.on('smtp_server_message_received', function(msg)
  msg:dkim_sign(signer(msg:from_header().domain))
  assert(msg:get_first_named_header_value('DKIM-Signature'):find 's=rsa2027')
end)

kumo.on('http_message_generated', function(msg)
  msg:dkim_sign(signer 'example.com')
end)
