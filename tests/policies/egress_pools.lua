-- Pools of sources with weights, from a table as a file would give it.
local kumo = require 'kumo'

local sources = {
  warm = { source_address = '10.0.1.1', ehlo_domain = 'warm.example.com', ttl = '5m' },
  cold = { source_address = '10.0.1.2', remote_port = 587 },
}

kumo.on('get_egress_source', function(source_name)
  local options = sources[source_name]
  if not options then
    error('there is no source ' .. source_name)
  end
  options.name = source_name
  return kumo.make_egress_source(options)
end)

kumo.on('get_egress_pool', function(pool_name)
  return kumo.make_egress_pool {
    name = pool_name,
    entries = { { name = 'warm', weight = 90 }, { name = 'cold', weight = 10 }, { name = 'unspecified' } },
    ttl = '1m',
  }
end)

kumo.on('get_queue_config', function()
  return kumo.make_queue_config { egress_pool = 'everything' }
end)

kumo.on('validate_config', function()
  assert(kumo.invoke_get_egress_source('warm').source_address == '10.0.1.1')
  local pool = kumo.invoke_get_egress_pool 'everything'
  assert(pool.entries[1].weight == 90)
  assert(kumo.invoke_get_egress_pool(nil).name == 'unspecified')
end)
