-- DNS block lists, reverse names and SPF at the door; answered from zones of the policy's own.
local kumo = require 'kumo'

kumo.dns.configure_test_resolver {
  zones = {
    [[
$ORIGIN rbl.example.
@ 300 IN SOA ns.rbl.example. hostmaster.rbl.example. 1 7200 600 86400 300
9.2.0.192 300 IN A 127.0.0.2
9.2.0.192 300 IN TXT "listed on monday"
]],
    [[
$ORIGIN sender.example.
@ 300 IN SOA ns.sender.example. hostmaster.sender.example. 1 7200 600 86400 300
@ 300 IN TXT "v=spf1 ip4:192.0.2.0/24 -all"
]],
  },
}

kumo.on('smtp_server_mail_from', function(sender, conn_meta)
  local ip, reason = kumo.dns.rbl_lookup('192.0.2.9', 'rbl.example')
  assert(ip == '127.0.0.2' and reason:find 'monday')
  assert(kumo.dns.rbl_lookup('192.0.2.10:2525', 'rbl.example') == nil)
  assert(kumo.dns.reverse_ip '192.0.2.9' == '9.2.0.192')
  assert(kumo.dns.ptr_host '192.0.2.9' == '9.2.0.192.in-addr.arpa')

  local result = kumo.spf.check_host('sender.example', conn_meta)
  assert(result.disposition == 'pass' and result.result.method == 'spf')
  kumo.log_info(kumo.spf.check_host('sender.example', conn_meta, 'me@sender.example').result.reason)
end)
