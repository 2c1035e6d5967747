-- TLS towards the next host, in every strictness.
local kumo = require 'kumo'

local modes = {
  ['bank.example'] = 'Required',
  ['lab.example'] = 'RequiredInsecure',
  ['legacy.example'] = 'Disabled',
  ['odd.example'] = 'OpportunisticInsecure',
}

kumo.on('get_egress_path_config', function(routing_domain)
  return kumo.make_egress_path {
    enable_tls = modes[routing_domain] or 'Opportunistic',
    enable_mta_sts = true,
    enable_dane = routing_domain == 'bank.example',
    tls_prefer_openssl = true,
    tls_certificate = 'data/client.pem',
    tls_private_key = 'data/client.key',
    openssl_cipher_list = 'HIGH:!aNULL',
    openssl_cipher_suites = 'TLS_AES_256_GCM_SHA384',
    openssl_options = 'NO_SSLV3|NO_TLSV1',
    rustls_cipher_suites = { 'TLS13_AES_256_GCM_SHA384' },
    remember_broken_tls = '3 days',
    opportunistic_tls_reconnect_on_failed_handshake = true,
    starttls_timeout = '15s',
  }
end)
