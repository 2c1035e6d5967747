-- SPF, DKIM, ARC and DMARC, in one header; without asking any name server.
local kumo = require 'kumo'

kumo.dns.define_resolver('quiet', { Test = { zones = {} } })

kumo.on('smtp_server_message_received', function(msg, conn_meta)
  local spf = kumo.spf.check_msg(msg, 'quiet')
  local dkim = msg:dkim_verify 'quiet'
  local arc = msg:arc_verify 'quiet'
  local dmarc = kumo.dmarc.check_msg(msg, dkim, 'quiet', spf.result, false)
  local results = { spf.result, arc, dmarc.result }
  for _, one in ipairs(dkim) do
    table.insert(results, one)
  end
  table.insert(results, {
    method = 'x-example',
    result = 'pass',
    reason = 'by hand',
    props = { ['policy.example'] = 'yes' },
  })
  msg:add_authentication_results('mx.example.com', results)
  msg:set_meta('dmarc', dmarc.disposition)
end)
