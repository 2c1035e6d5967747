-- A sink: accepts everything, throws it away.
--
--   kumo-py serve --policy policies/sink.lua
--
-- Environment: KUMO_SINK_LISTEN (ip:port, default 127.0.0.1:2026)
--              KUMO_SINK_DIR    (spool, and logs if KUMO_SINK_LOG is set; default /tmp/kumo-py-sink)
--              KUMO_SINK_LOG    (set: log each reception, with the generator's trace header)
local kumo = require 'kumo'

local dir = os.getenv 'KUMO_SINK_DIR' or '/tmp/kumo-py-sink'

kumo.on('init', function()
  -- Nothing is ever stored, but a node has a spool.
  kumo.define_spool { name = 'data', path = dir .. '/data' }
  kumo.define_spool { name = 'meta', path = dir .. '/meta' }

  if os.getenv 'KUMO_SINK_LOG' then
    kumo.configure_local_logs {
      log_dir = dir .. '/logs',
      headers = { 'X-Traffic-Gen' },
      per_record = {
        Reception = { enable = true },
        Any = { enable = false },
      },
    }
  end

  kumo.start_esmtp_listener {
    listen = os.getenv 'KUMO_SINK_LISTEN' or '127.0.0.1:2026',
    relay_hosts = { '127.0.0.0/8', '::1' },
    max_messages_per_connection = 1000000,
    max_message_size = 100 * 1024 * 1024,
    trace_headers = { received_header = false, supplemental_header = false },
  }
end)

kumo.on('smtp_server_message_received', function(msg)
  msg:set_meta('queue', 'null')
end)
