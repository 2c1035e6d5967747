-- Options by the client's network and by the local address, behind a proxy that tells the client's address.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0',
    require_proxy_protocol = true,
    allow_xclient = false,
    meta = { listener = 'edge' },
    peer = {
      ['10.0.0.0/8'] = { relay_hosts = { '10.0.0.0/8' }, meta = { zone = 'inside' } },
      ['10.99.0.0/16'] = { allow_xclient = true, trace_headers = { received_header = false } },
    },
    via = {
      ['10.0.0.25'] = { hostname = 'mx1.example.com', banner = 'MX 1' },
      ['10.0.0.26'] = { hostname = 'mx2.example.com', max_message_size = 1024 },
    },
  }
end)
