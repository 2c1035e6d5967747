-- Traffic shaping by files: what each path gets, and what was wrong with them.
local kumo = require 'kumo'

local function shaping()
  return kumo.shaping.load({ 'data/shaping.toml' }, {
    provider_overlap = 'Warn',
    dns_fail = 'Ignore',
    null_mx = 'Ignore',
    aliased_site = 'Ignore',
    remote_load = 'Ignore',
    local_load = 'Error',
    skip_remote = true,
    http_timeout = '10s',
  })
end

kumo.on('get_egress_path_config', function(routing_domain, egress_source, site_name)
  return kumo.make_egress_path(shaping():get_egress_path_config(routing_domain, egress_source, site_name))
end)

kumo.on('validate_config', function()
  local loaded = shaping()
  for _, problem in ipairs(loaded:get_errors()) do
    kumo.log_error(problem)
    kumo.validation_failed()
  end
  assert(#loaded:get_warnings() == 0)
  assert(loaded:get_referenced_sources())
  assert(#loaded:hash() > 0)
  local options = loaded:get_egress_path_config('shaped.example', 'any', 'mx.shaped.example')
  assert(options.connection_limit == 3 or options.connection_limit == '3')
end)
