-- A script: `kumo-py serve --script --policy ops_script.lua -- a b`; here its start-up is validated too.
local kumo = require 'kumo'

kumo.on('main', function(first, second)
  print(first, second)
end)

kumo.on('validate_config', function()
  assert(_VALIDATING_CONFIG and _KUMO_CURRENT_EVENT == 'validate_config')
  local stack = kumo.traceback(1)
  assert(stack[1].curr_line and stack[1].short_src)
  assert(kumo.prometheus_metrics())
end)
