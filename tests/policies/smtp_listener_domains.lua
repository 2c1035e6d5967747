-- Which domains are ours: for relaying, for bounces and for feedback reports.
local kumo = require 'kumo'

local ours = kumo.domain_map.new {
  ['example.com'] = { relay_to = true, ttl = '5m' },
  ['bounce.example.com'] = { log_oob = 'LogThenDrop', relay_to = false },
  ['fbl.example.com'] = { log_arf = 'LogThenRelay', log_oob = true },
  ['*.customers.example'] = { relay_from = { '172.16.0.0/12' } },
}

kumo.on('get_listener_domain', function(domain, listener, conn_meta)
  local options = ours[domain]
  if options then
    local made = kumo.make_listener_domain(options)
    for name, value in pairs(made) do
      kumo.log_debug(name, value)
    end
    return made
  end
end)
