-- Maps by network and by domain.
local kumo = require 'kumo'

kumo.on('init', function()
  local networks = kumo.cidr.make_map { ['10.0.0.0/8'] = 'inside', ['10.1.0.0/16'] = 'lab' }
  networks['192.0.2.1'] = 'one'
  assert(networks['10.1.2.3'] == 'lab' and networks['10.2.3.4'] == 'inside' and networks['192.0.2.1'] == 'one')
  assert(networks['8.8.8.8'] == nil)

  local domains = kumo.domain_map.new()
  domains['example.com'] = 1
  domains['*.example.com'] = 2
  assert(domains['example.com'] == 1 and domains['a.b.example.com'] == 2 and domains['example.org'] == nil)
end)
