-- Limits from elsewhere, laid over those of a path.
local kumo = require 'kumo'

kumo.on('validate_config', function()
  local path = kumo.make_egress_path { connection_limit = 10, max_message_rate = '100/min' }
  local found = kumo.compute_egress_path_config_constraints(path)
  local text = kumo.format_egress_path_config_constraints(found)
  assert(text:find '10')
  kumo.log_info(kumo.serde.json_encode_pretty(found))
end)
