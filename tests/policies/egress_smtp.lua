-- Ports, hosts, logins and other peculiarities of SMTP.
local kumo = require 'kumo'

kumo.on('get_egress_path_config', function(routing_domain, egress_source)
  if routing_domain == 'lmtp.example' then
    return kumo.make_egress_path { use_lmtp = true, smtp_port = 24, prohibited_hosts = {} }
  end
  return kumo.make_egress_path {
    smtp_port = 587,
    ehlo_domain = egress_source .. '.example.com',
    smtp_auth_plain_username = 'relay',
    smtp_auth_plain_password = { vault_mount = 'secret', vault_path = 'smtp/' .. routing_domain, vault_key = 'password' },
    allow_smtp_auth_plain_without_tls = false,
    allow_smtp_auth_plain_without_valid_certificate = true,
    prohibited_hosts = { '127.0.0.0/8', '::1', '10.0.0.0/8' },
    skip_hosts = { '198.51.100.0/24' },
    ip_lookup_strategy = 'Ipv4ThenIpv6',
    enable_pipelining = false,
    enable_rset = false,
    ignore_8bit_checks = true,
    try_next_host_on_transport_error = true,
    reconnect_strategy = 'ReconnectSameHost',
    aggressive_connection_opening = true,
  }
end)
