-- A whole node from helpers: KumoMTA's user guide shows one like it (Configuration, An Example Configuration).
local kumo = require 'kumo'
local shaping = require 'policy-extras.shaping'
local queue_module = require 'policy-extras.queue'
local listener_domains = require 'policy-extras.listener_domains'
local sources = require 'policy-extras.sources'
local dkim_sign = require 'policy-extras.dkim_sign'
local log_hooks = require 'policy-extras.log_hooks'

sources:setup { 'sources.toml' }

local dkim_signer = dkim_sign:setup { 'dkim_data.toml' }

local shaper = shaping:setup_with_automation {
  publish = { 'http://127.0.0.1:@WEB@' },
  subscribe = { 'http://127.0.0.1:@WEB@' },
  extra_files = { 'shaping.toml' },
}

log_hooks:new_json {
  name = 'webhook',
  url = 'http://127.0.0.1:@WEB@/log',
  log_parameters = { headers = { 'Subject' } },
}

-- The last to handle get_queue_config.
local queue_helper = queue_module:setup { 'queues.toml' }

kumo.on('init', function()
  kumo.set_config_monitor_globs { '*.toml' }
  kumo.dns.configure_test_resolver {
    '$ORIGIN receiver.test.\n@ MX 10 mx1\nmx1 A 127.0.0.1\n',
    '$ORIGIN rolled.test.\n@ MX 10 mx1.receiver.test.\n',
    '$ORIGIN other.test.\n@ MX 10 mx1.receiver.test.\n',
  }
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool { name = name, path = 'spool/' .. name, kind = 'RocksDB', min_free_space = 0, min_free_inodes = 0 }
  end
  shaper.setup_publish()
  kumo.configure_local_logs {
    log_dir = 'logs', max_segment_duration = '1 minute', min_free_space = 0, min_free_inodes = 0,
  }
  kumo.configure_bounce_classifier { files = { '/opt/kumomta/share/bounce_classifier/iana.toml' } }
  kumo.start_http_listener { listen = '127.0.0.1:0', trusted_hosts = { '127.0.0.1', '::1' } }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', relay_hosts = {} }
end)

kumo.on('get_listener_domain', listener_domains:setup { 'listener_domains.toml' })

kumo.on('get_egress_path_config', shaper.get_egress_path_config)

kumo.on('smtp_server_message_received', function(msg)
  local failed = msg:check_fix_conformance('NON_CANONICAL_LINE_ENDINGS', '')
  if failed then
    kumo.reject(552, '5.6.0 ' .. failed)
  end
  queue_helper:apply(msg)
  dkim_signer(msg)
end)

kumo.on('http_message_generated', function(msg)
  queue_helper:apply(msg)
  dkim_signer(msg)
end)
