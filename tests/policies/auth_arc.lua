-- Seals what is handed on, and reports by DMARC.
local kumo = require 'kumo'

kumo.dns.define_resolver('none', { Test = { zones = {} } })

kumo.on('smtp_server_message_received', function(msg)
  local signer = kumo.dkim.ed25519_signer {
    domain = 'list.example',
    selector = 'seal',
    headers = { 'From', 'Subject' },
    key = 'data/ed25519.key',
  }
  msg:arc_seal(signer, 'mx.list.example', { { method = 'spf', result = 'none', props = {} } }, 'none')
  assert(msg:get_first_named_header_value 'ARC-Seal')
end)
