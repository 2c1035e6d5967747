-- Names without a network: zones of the policy's own, and what can be looked up in them.
local kumo = require 'kumo'

local zones = {
  [[
$ORIGIN mail.example.
@ 600 IN SOA ns.mail.example. hostmaster.mail.example. 1 7200 600 86400 300
@ 600 IN MX 10 a
@ 600 IN MX 20 b
@ 600 IN TXT "hello" "world"
a 600 IN A 192.0.2.31
b 600 IN A 192.0.2.32
b 600 IN AAAA 2001:db8::32
]],
  [[
$ORIGIN 2.0.192.in-addr.arpa.
@ 600 IN SOA ns.mail.example. hostmaster.mail.example. 1 7200 600 86400 300
31 600 IN PTR a.mail.example.
]],
}

kumo.on('pre_init', function()
  kumo.dns.configure_test_resolver { zones = zones, servfail = { 'broken.example' } }
  kumo.dns.configure_test_mta_sts { ['mail.example'] = 'version: STSv1\nmode: testing\nmx: a.mail.example\nmax_age: 86400\n' }
end)

kumo.on('validate_config', function()
  local mx = kumo.dns.lookup_mx 'mail.example'
  assert(mx.hosts[1] == 'a.mail.example.' and mx.by_pref[20][1] == 'b.mail.example.')
  assert(mx.site_name and not mx.is_domain_literal and not mx.is_secure)
  assert(kumo.dns.lookup_addr('b.mail.example', nil, 'Ipv4Only')[1] == '192.0.2.32')
  assert(kumo.dns.lookup_ptr('192.0.2.31')[1] == 'a.mail.example.')
  assert(kumo.dns.lookup_txt('mail.example')[1] == 'helloworld')
  assert(not pcall(kumo.dns.lookup_mx, 'broken.example'))
end)
