-- How much, how fast, how many at once.
local kumo = require 'kumo'

kumo.on('get_egress_path_config', function(routing_domain, egress_source, site_name)
  return kumo.make_egress_path {
    connection_limit = 'local:8',
    additional_connection_limits = { ['all-of-' .. egress_source] = 64 },
    max_connection_rate = '20/min',
    max_message_rate = '1,000/hr,max_burst=50',
    additional_message_rate_throttles = { shared = '5000/hour', ['tenant-x'] = '2/s' },
    source_selection_rate = '100/day',
    additional_source_selection_rates = { ['warming-' .. egress_source] = '500/d' },
    max_deliveries_per_connection = 25,
    max_recipients_per_batch = 5,
    max_ready = 4096,
    consecutive_connection_failures_before_delay = 7,
    provider_name = 'Example',
  }
end)

kumo.on('validate_config', function()
  local path = kumo.invoke_get_egress_path_config('example.net', 'source-1', 'mx.example.net')
  local queue = kumo.make_queue_config { max_message_rate = '10/s' }
  local limits =
    kumo.compute_egress_path_config_constraints(kumo.make_egress_path(path), kumo.compute_queue_config_constraints(queue))
  kumo.log_info(kumo.format_egress_path_config_constraints(limits))
  kumo.log_info(kumo.format_egress_path_config_toml(kumo.make_egress_path(path)))
  assert(kumo.format_queue_config_toml(queue):find 'max_message_rate')
end)
