-- Who may relay for which domain, and which domains take reports, from TOML and JSON files:
--
--   ["example.com"]                              options of kumo.make_listener_domain
--   relay_to = true
--   ["*.example.com"]                            every name below example.com
--   ["customer.example"]
--   relay_from_authz = ["user"]                  whoever has logged in as one of these may relay
--   [listener."192.0.2.1:25"."example.com"]      for one listener; goes before what holds for all
--
-- In the policy:
-- kumo.on('get_listener_domain', listener_domains:setup { '/opt/kumomta/etc/policy/listener_domains.toml' })

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local listener_domains = {}

local AUTHZ = typing.list(typing.string)
local FIELDS = { relay_from_authz = AUTHZ }
local ANY = '*' -- any listener, any domain

-- Reading ---------------------------------------------------------------------------------------------------
local function read_domain(data, problems, file, where, listener, domain, block)
  if not problems:is_table(file, where, block) then
    return
  elseif domain ~= ANY and domain:gsub('^%*%.', ''):find('*', 1, true) then
    problems:add(file, where, "a wildcard is '*' alone, or a name that begins with '*.'")
  end
  local options, authz = {}, nil
  for name, value in pairs(block) do
    if name == 'relay_from_authz' then
      authz = problems:value(file, where, name, AUTHZ, value)
    else
      options[name] = value
    end
  end
  problems:options(file, where, kumo.make_listener_domain, options, nil, FIELDS)
  local domains = data[listener] or {}
  local entry = domains[domain] or { options = {} }
  data[listener], domains[domain] = domains, entry
  utils.merge_into(options, entry.options)
  entry.authz = authz or entry.authz
end

local function read(files)
  local problems = data_files.problems()
  local data = {} -- by listener and domain
  for _, file in ipairs(files) do
    for domain, block in data_files.sorted(problems:read(file) or {}) do
      if domain ~= 'listener' then
        read_domain(data, problems, file, string.format('["%s"]', domain), ANY, tostring(domain), block)
      elseif problems:is_table(file, '[listener]', block) then
        for listener, domains in data_files.sorted(block) do
          local where = string.format('[listener."%s"]', listener)
          if problems:is_table(file, where, domains) then
            for name, options in data_files.sorted(domains) do
              where = string.format('[listener."%s"."%s"]', listener, name)
              read_domain(data, problems, file, where, listener, tostring(name), options)
            end
          end
        end
      end
    end
  end
  return data, problems
end

-- For each listener its entries, and a map from a domain to the name of the entry for it.
local function load(files)
  local data, problems = read(files)
  problems:raise()
  local by_listener = {}
  for listener, domains in pairs(data) do
    local names = {}
    for domain in pairs(domains) do
      names[domain] = domain
    end
    by_listener[listener] = { names = kumo.domain_map.new(names), domains = domains }
  end
  return by_listener
end

-- Answering -------------------------------------------------------------------------------------------------
local function found_in(of_listener, domain)
  local name = of_listener and of_listener.names[domain]
  return name and of_listener.domains[name]
end

local function find(by_listener, domain, listener)
  local any = by_listener[ANY]
  return found_in(by_listener[listener], domain) or found_in(any, domain) or any and any.domains[ANY]
end

--- The handler for get_listener_domain; a table stands for a file's content. Once a policy.
function listener_domains:setup(files)
  if listener_domains.CONFIGURED then
    error('listener_domains:setup may be called once: give it all files', 2)
  end
  listener_domains.CONFIGURED = { data_files = files }
  local get_data = data_files.kept({ name = 'listener_domains_data', ttl = '5 minutes' }, files, load)

  return function(domain, listener, conn_meta)
    local entry = find(get_data(), domain, listener)
    if not entry then
      return nil
    end
    local options = {}
    utils.merge_into(entry.options, options)
    if entry.authz and utils.table_contains(entry.authz, conn_meta:get_meta 'authz_id') then
      options.relay_from = { (utils.split_ip_port(conn_meta:get_meta 'received_from')) }
    end
    return kumo.make_listener_domain(options)
  end
end

kumo.on('validate_config', function()
  if listener_domains.CONFIGURED then
    local _, problems = read(listener_domains.CONFIGURED.data_files)
    problems:report 'the listener_domains files'
  end
end)

return listener_domains
