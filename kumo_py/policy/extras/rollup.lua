-- Other ways than the site name to let domains share a ready queue: by what the names of their mail hosts end with, or
-- by the addresses of these. Names of hosts end with a dot here, and so do the suffixes.

local kumo = require 'kumo'
local utils = require 'policy-extras.policy_utils'

local rollup = {}

local IP_ROLLUP = '.ip_rollup'

local function all_end_with(hosts, suffix)
  for _, host in ipairs(hosts) do
    if not utils.ends_with(host, suffix) then
      return false
    end
  end
  return #hosts > 0
end

-- The hosts of the lowest preference number, which are tried first.
local function first_hosts(domain)
  local lowest, hosts = math.huge, {}
  for preference, names in pairs(kumo.dns.lookup_mx(domain).by_pref) do
    if tonumber(preference) < lowest then
      lowest, hosts = tonumber(preference), names
    end
  end
  return hosts
end

-- Sets the routing domain that the longest matching suffix leads to.
local function reroute(msg, mapping, hosts_of)
  local ok, err = pcall(function()
    local domain = msg:recipient_list()[1].domain
    local hosts, best = hosts_of(domain), ''
    for suffix in pairs(mapping) do
      if #suffix > #best and all_end_with(hosts, suffix) then
        best = suffix
      end
    end
    if best ~= '' and mapping[best] ~= domain then
      msg:set_meta('routing_domain', mapping[best])
    end
  end)
  if not ok then
    kumo.log_warn('rollup: ' .. tostring(err))
  end
end

--- Gives a message the routing domain of a suffix that all mail hosts of its domain end with:
--- { ['.olc.protection.outlook.com.'] = 'outlook.com' }. A domain that does not resolve is left alone.
function rollup.reroute_based_on_mx_host_suffix(msg, mapping)
  reroute(msg, mapping, function(domain)
    return kumo.dns.lookup_mx(domain).hosts
  end)
end

--- The same for the hosts that are tried first; each routing domain must end with .ip_rollup, and
--- apply_ip_rollup_to_queue_config must see to it in get_queue_config.
function rollup.reroute_using_ip_rollup(msg, mapping)
  reroute(msg, mapping, first_hosts)
end

--- Lets the queue options in params name the addresses of the domain's first hosts if the routing domain ends with
--- .ip_rollup: domains with the same addresses then have one ready queue.
function rollup.apply_ip_rollup_to_queue_config(domain, routing_domain, params)
  if not routing_domain or not utils.ends_with(routing_domain, IP_ROLLUP) then
    return
  end
  local mx_list = {}
  for _, host in ipairs(first_hosts(domain)) do
    local addresses = kumo.dns.lookup_addr(host)
    table.sort(addresses) -- the list is part of the ready queue's name
    for _, address in ipairs(addresses) do
      table.insert(mx_list, { name = host, addr = address })
    end
  end
  params.protocol = { smtp = { mx_list = mx_list } }
end

return rollup
