-- Where the DNS is asked; each form that KumoMTA knows.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  kumo.dns.configure_resolver {
    domain = 'example.com',
    search = { 'example.com' },
    name_servers = {
      '127.0.0.1:53',
      { socket_addr = '127.0.0.2:53', protocol = 'udp', trust_negative_responses = true, bind_addr = '127.0.0.1:0' },
      { socket_addr = '[::1]:5353', protocol = 'tcp' },
    },
    options = {
      ndots = 2,
      timeout = '3s',
      attempts = 3,
      edns0 = true,
      validate = true,
      ip_strategy = 'Ipv4thenIpv6',
      cache_size = 4096,
      use_hosts_file = 'Never',
      positive_min_ttl = '30s',
      positive_max_ttl = '1 day',
      negative_min_ttl = '5s',
      negative_max_ttl = '10m',
      num_concurrent_reqs = 1,
      preserve_intermediates = false,
      try_tcp_on_error = true,
      server_ordering_strategy = 'UserProvidedOrder',
      recursion_desired = true,
      case_randomization = false,
      trust_anchor_file = { managed = '/var/lib/example/root.key' },
    },
  }
  kumo.dns.set_mx_concurrency_limit(16)
  kumo.dns.set_mx_timeout '20s'
  kumo.dns.set_mx_negative_cache_ttl '1m'
  kumo.dns.set_mta_sts_enabled(true)
  kumo.dns.define_resolver('system', 'HickorySystemConfig')
  kumo.dns.define_resolver('local', { Hickory = { name_servers = { '127.0.0.1:53' } } })
  kumo.dns.define_resolver('both', { Aggregate = { 'HickorySystemConfig', { Test = { zones = {} } } } })
end)
