-- A relay: queues everything durably and sends it to one host.
--
--   KUMO_RELAY_TO=127.0.0.1:2026 kumo-py serve --policy policies/relay.lua
--
-- Environment: KUMO_RELAY_LISTEN (ip:port, default 127.0.0.1:2025)
--              KUMO_RELAY_TO     (ip:port of the next host, default 127.0.0.1:2026)
--              KUMO_RELAY_HTTP   (ip:port of the HTTP API; none by default)
--              KUMO_RELAY_DIR    (spool and logs, default /tmp/kumo-py-relay)
local kumo = require 'kumo'

local dir = os.getenv 'KUMO_RELAY_DIR' or '/tmp/kumo-py-relay'
local next_host = os.getenv 'KUMO_RELAY_TO' or '127.0.0.1:2026'

kumo.on('init', function()
  kumo.define_spool { name = 'data', path = dir .. '/data' }
  kumo.define_spool { name = 'meta', path = dir .. '/meta' }

  kumo.configure_local_logs {
    log_dir = dir .. '/logs',
    max_segment_duration = '1 minute',
  }

  kumo.start_esmtp_listener {
    listen = os.getenv 'KUMO_RELAY_LISTEN' or '127.0.0.1:2025',
    relay_hosts = { '127.0.0.0/8', '::1' },
    max_messages_per_connection = 1000000,
  }

  local http = os.getenv 'KUMO_RELAY_HTTP'
  if http then
    kumo.start_http_listener { listen = http }
  end
end)

-- Whatever its domain, a message goes to the one host.
kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  return kumo.make_queue_config {
    protocol = { smtp = { mx_list = { next_host } } },
    retry_interval = '1 minute',
  }
end)

kumo.on('get_egress_path_config', function(routing_domain, egress_source, site_name)
  return kumo.make_egress_path {
    -- The next host is on this machine: no need to hide the traffic, and loopback is allowed.
    enable_tls = 'Disabled',
    prohibited_hosts = {},
    connection_limit = 20,
    max_ready = 100000,
    max_deliveries_per_connection = 100000,
  }
end)

-- Tenants have queues of their own: here there is one for all.
kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('tenant', 'demo')
end)
