-- Tenants, campaigns and the options of scheduled queues, from TOML and JSON files:
--
--   tenant_header = "X-Tenant"                    also campaign_header, scheduling_header, default_tenant,
--   remove_tenant_header = true                   remove_campaign_header
--   [tenant."t"]                                  options of kumo.make_queue_config; require_authz,
--   egress_pool = "pool-1"                        overall_max_message_rate
--   [tenant."t".campaigns."c"]                    the same for one of its campaigns, to any destination
--   [queue.default]                               options for all destinations
--   [queue."example.com"]                         for one, or with *.example.com for all below; routing_domain
--   [queue."example.com"."t"]                     for one tenant there
--   [queue."example.com"."t"."c"]                 for one campaign of it
--
-- What is lower in this list goes before what is higher. In the policy, last of all that handles get_queue_config:
-- local helper = queue:setup { '/opt/kumomta/etc/policy/queues.toml' }, and helper:apply(msg) when a message comes in.

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local queue = {}

local Bool, List, Text = typing.option(typing.boolean), typing.list, typing.option(typing.string)

local TOP = {
  scheduling_header = Text,
  tenant_header = Text,
  remove_tenant_header = Bool,
  campaign_header = Text,
  remove_campaign_header = Bool,
  default_tenant = Text,
}
local SECTIONS = { tenant = 'tenants', tenants = 'tenants', queue = 'queues', queues = 'queues' }
local TOP_NAMES = { tenant = true, queue = true }
utils.merge_into(TOP, TOP_NAMES)

-- A rate as kumo.make_throttle takes it.
local Rate = { name = 'throttle' }
function Rate:validate_value(value)
  local ok, err = pcall(kumo.make_throttle, 'queue-helper-check', value)
  if ok then
    return true, value
  end
  return false, data_files.complaint(err)
end

-- What blocks have besides options of kumo.make_queue_config.
local TENANT = { require_authz = List(typing.string), overall_max_message_rate = Rate, campaigns = typing.any }
local CAMPAIGN = { overall_max_message_rate = Rate, routing_domain = typing.string }
local DOMAIN = { overall_max_message_rate = Rate, routing_domain = typing.string, tenants = typing.any }
local DOMAIN_TENANT = { overall_max_message_rate = Rate, routing_domain = typing.string, campaigns = typing.any }

-- Options ---------------------------------------------------------------------------------------------------
local TAKES_TABLE = { protocol = true, shrink_policy = true }

-- 'yes', 'no' (there is no such option), 'kind' (there is, but not with a table), or 'wrong'; and what is wrong.
local function judge_option(name, value)
  local ok, err = pcall(kumo.make_queue_config, { [name] = value })
  if ok then
    return 'yes'
  end
  local text = data_files.complaint(err)
  if text:find(string.format("unknown option '%s'", name), 1, true) then
    return 'no', text
  elseif type(value) == 'table' and not TAKES_TABLE[name] then
    return 'kind', text
  end
  return 'wrong', text
end

--- Whether kumo.make_queue_config takes this; for a wrong value of an option that exists also what is wrong.
function queue.is_queue_config_option(name, value)
  local judgement, text = judge_option(name, value)
  if judgement == 'yes' then
    return true
  end
  return false, judgement ~= 'no' and text or nil
end

-- Reading ---------------------------------------------------------------------------------------------------
local read_children

-- Reads one block into `target`. With `inner`, tables that are no options are blocks inside of this one, which are
-- also in the table named `inner.key`.
local function read_block(problems, file, where, target, block, fields, inner)
  if not problems:is_table(file, where, block) then
    return
  end
  for name, value in data_files.sorted(block) do
    if inner and name == inner.key then
      read_children(problems, file, where, target, value, inner)
    elseif fields[name] then
      target[name] = problems:value(file, where, name, fields[name], value)
    else
      local judgement, text = judge_option(name, value)
      if judgement == 'yes' then
        target.options[name] = value
      elseif inner and inner.loose and type(value) == 'table' and judgement ~= 'wrong' then
        read_children(problems, file, where, target, { [name] = value }, inner)
      else
        local near = judgement == 'no' and data_files.hint(tostring(name), fields) or ''
        problems:add(file, where, near == '' and text or string.format("unknown option '%s'%s", name, near))
      end
    end
  end
end

function read_children(problems, file, where, target, blocks, inner)
  if not problems:is_table(file, where, blocks) then
    return
  end
  for name, block in data_files.sorted(blocks) do
    name = tostring(name)
    local child = target[inner.key][name] or inner.new()
    target[inner.key][name] = child
    local child_where = string.format('%s.%s"%s"]', where:sub(1, -2), inner.loose and '' or inner.key .. '.', name)
    child.places = child.places or {}
    table.insert(child.places, { file = file, where = child_where })
    read_block(problems, file, child_where, child, block, inner.fields, inner.inner)
  end
end

local function new_domain()
  return { options = {}, tenants = {} }
end

local function new_tenant()
  return { options = {}, campaigns = {} }
end

local function new_campaign()
  return { options = {} }
end

-- What is in which kind of block. `loose`: any table that is no option is one of these.
local IN_TENANT = { key = 'campaigns', fields = CAMPAIGN, new = new_campaign }
local IN_DOMAIN_TENANT = { key = 'campaigns', loose = true, fields = CAMPAIGN, new = new_campaign }
local IN_DOMAIN =
  { key = 'tenants', loose = true, fields = DOMAIN_TENANT, new = new_tenant, inner = IN_DOMAIN_TENANT }
local IN_TOP = {
  tenants = { key = 'tenants', loose = true, fields = TENANT, new = new_tenant, inner = IN_TENANT },
  queues = { key = 'queues', loose = true, fields = DOMAIN, new = new_domain, inner = IN_DOMAIN },
}

local function read_file(problems, file, data)
  for name, value in data_files.sorted(problems:read(file) or {}) do
    local section = SECTIONS[name]
    if section then
      read_children(problems, file, string.format('[%s]', name), data, value, IN_TOP[section])
    elseif TOP[name] then
      data[name] = problems:value(file, '', name, TOP[name], value)
    else
      local hint = data_files.hint(tostring(name), TOP_NAMES)
      problems:add(file, '', string.format("unknown option '%s'%s", name, hint))
    end
  end
end

-- Calls f with every block below these.
local function each_block(blocks, f)
  for _, block in data_files.sorted(blocks) do
    f(block)
    each_block(block.tenants or block.campaigns or {}, f)
  end
end

local function read(files)
  local problems, data = data_files.problems(), { tenants = {}, queues = {} }
  for _, file in ipairs(files) do
    read_file(problems, file, data)
  end
  return data, problems
end

local function load(files)
  local data, problems = read(files)
  problems:raise()
  local names = {}
  for name in pairs(data.queues) do
    names[name] = name
  end
  data.names = kumo.domain_map.new(names)
  data.has_rates, data.has_routing_domains = false, false -- without them messages need no look at blocks
  local function look_at(block)
    data.has_rates = data.has_rates or block.overall_max_message_rate ~= nil
    data.has_routing_domains = data.has_routing_domains or block.routing_domain ~= nil
  end
  each_block(data.tenants, look_at)
  each_block(data.queues, look_at)
  return data
end

-- Resolving -------------------------------------------------------------------------------------------------
-- The blocks that apply, from the least to the most particular.
local function layers(data, domain, tenant, campaign)
  local found = { data.queues.default }
  local name = domain and data.names[domain]
  local at_domain = name and name ~= 'default' and data.queues[name]
  local of_tenant = tenant and data.tenants[tenant]
  local at_both = at_domain and tenant and at_domain.tenants[tenant]
  found[#found + 1] = at_domain or nil
  found[#found + 1] = of_tenant or nil
  found[#found + 1] = of_tenant and campaign and of_tenant.campaigns[campaign] or nil
  found[#found + 1] = at_both or nil
  found[#found + 1] = at_both and campaign and at_both.campaigns[campaign] or nil
  return found
end

local function resolve_options(data, domain, tenant, campaign)
  local params = { refresh_strategy = 'Epoch' }
  for _, layer in ipairs(layers(data, domain, tenant, campaign)) do
    utils.merge_into(layer.options, params)
  end
  return params
end

local function resolve_routing_domain(data, domain, tenant, campaign)
  local found = layers(data, domain, tenant, campaign)
  for n = #found, 1, -1 do
    if found[n].routing_domain then
      return found[n].routing_domain
    end
  end
end

-- The provider of the path that a message would probably take; which source it has makes no difference.
local resolve_provider = kumo.memoize(function(domain, routing_domain)
  local ok, provider = pcall(function()
    local target = routing_domain or domain
    local site = kumo.dns.lookup_mx(target).site_name
    return kumo.invoke_get_egress_path_config(target, 'unspecified', site).provider_name
  end)
  return ok and provider or nil
end, { name = 'queue.lua_resolve_provider', ttl = '1 minute', capacity = 128, invalidate_with_epoch = true })

--- The provider_name that shaping gives to a destination, or nil.
function queue:resolve_provider(domain, routing_domain)
  return resolve_provider(domain, routing_domain)
end

-- Messages --------------------------------------------------------------------------------------------------
local function check_authorization(msg, tenant, wanted)
  local authz = msg:get_meta 'authz_id'
  if not authz then
    kumo.reject(500, string.format("tenant '%s' is only for those who have logged in with SMTP AUTH", tenant))
  elseif not utils.table_contains(wanted, authz) then
    kumo.reject(500, string.format("'%s' may not send as tenant '%s'", authz, tenant))
  end
end

local function take_header(msg, name, remove)
  local value = name and msg:get_first_named_header_value(name)
  if value and remove then
    msg:remove_all_named_headers(name)
  end
  return value
end

local function apply(msg, data)
  if data.scheduling_header then
    msg:import_scheduling_header(data.scheduling_header, true)
  end
  local campaign = take_header(msg, data.campaign_header, data.remove_campaign_header)
  if campaign then
    msg:set_meta('campaign', campaign)
  end
  local tenant = take_header(msg, data.tenant_header, data.remove_tenant_header)
  local from = tenant and string.format("header '%s'", data.tenant_header) or 'default_tenant'
  tenant = tenant or data.default_tenant
  if tenant then
    local known = data.tenants[tenant]
    if not known then
      kumo.reject(500, string.format("tenant '%s', from %s, is not defined", tenant, from))
    elseif known.require_authz then
      check_authorization(msg, tenant, known.require_authz)
    end
    msg:set_meta('tenant', tenant)
  end
  local recipient = data.has_routing_domains and msg:recipient_list()[1]
  if recipient then
    local routing_domain =
      resolve_routing_domain(data, recipient.domain:lower(), msg:get_meta 'tenant', msg:get_meta 'campaign')
    if routing_domain then
      msg:set_meta('routing_domain', routing_domain)
    end
  end
end

-- Whether the overall rate of a block put the message off.
local function is_throttled(msg, block, kind, name)
  local rate = block and block.overall_max_message_rate
  return rate
    and kumo
      .make_throttle(string.format('queue-helper-%s-overall_max_message_rate-%s', kind, name), rate)
      :delay_message_if_throttled(msg)
end

-- Each destination's rates, from the least to the most particular.
local function throttle_destination(msg, data, tenant, campaign)
  local recipient = msg:recipient_list()[1]
  local name = recipient and data.names[recipient.domain:lower()]
  local block = name and data.queues[name]
  if not block or is_throttled(msg, block, 'queue', name) then
    return
  end
  block = tenant and block.tenants[tenant]
  if not block or is_throttled(msg, block, 'queue', string.format('%s@%s', tenant, name)) then
    return
  end
  block = campaign and block.campaigns[campaign]
  is_throttled(msg, block, 'queue', string.format('%s:%s@%s', campaign, tenant, name))
end

local function throttle(msg, data)
  if not data.has_rates then
    return
  end
  local tenant, campaign = msg:get_meta 'tenant', msg:get_meta 'campaign'
  local block = tenant and data.tenants[tenant]
  if is_throttled(msg, block, 'tenant', tenant) then
    return
  end
  block = block and campaign and block.campaigns[campaign]
  if is_throttled(msg, block, 'tenant-campaign', string.format('%s-%s', tenant, campaign)) then
    return
  end
  if not is_throttled(msg, data.queues.default, 'queue', 'default') then
    throttle_destination(msg, data, tenant, campaign)
  end
end

-- Setting up ------------------------------------------------------------------------------------------------
local SETUP = {
  file_names = List(typing.any),
  skip_queue_config_hook = Bool,
  invalidate_with_epoch = Bool,
}

--- Queue options from these files; a table stands for a file's content.
function queue:setup(file_names)
  return self:setup_with_options { file_names = file_names }
end

--- The same with skip_queue_config_hook and invalidate_with_epoch. Once a policy.
function queue:setup_with_options(options)
  if queue.CONFIGURED then
    error('queue:setup may be called once: give it all files', 2)
  end
  local problems = data_files.problems()
  options = problems:fields('queue:setup_with_options', '', options, SETUP)
  problems:raise()
  local files = options.file_names or {}
  local get_data = data_files.kept({
    name = 'queue_helper_data',
    ttl = '1 minute',
    invalidate_with_epoch = options.invalidate_with_epoch,
  }, files, load)

  local helper = { file_names = files }

  --- Sets tenant, campaign, schedule and routing domain of a message as its headers and the files say.
  function helper:apply(msg)
    apply(msg, get_data())
  end

  --- The options for a scheduled queue.
  function helper:resolve_config(domain, tenant, campaign)
    return resolve_options(get_data(), domain, tenant, campaign)
  end

  queue.CONFIGURED = { options = options, get_data = get_data, resolve_config = helper.resolve_config }

  if not options.skip_queue_config_hook then
    kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
      local params = resolve_options(get_data(), domain, tenant, campaign)
      params.provider_name = params.provider_name or resolve_provider(domain, routing_domain)
      return kumo.make_queue_config(params)
    end)
  end

  kumo.on('throttle_insert_ready_queue', function(msg)
    throttle(msg, get_data())
  end)

  return helper
end

-- Validating ------------------------------------------------------------------------------------------------
local function check_pools(data, problems)
  local sources = package.loaded['policy-extras.sources']
  local ok, known = pcall(function()
    return sources.CONFIGURED.get_data().pools
  end)
  if not ok then
    return -- the policy has pools of its own, or the sources helper says itself what is wrong
  end
  local function check(block)
    local pool = block.options.egress_pool
    if pool and pool ~= 'unspecified' and not known[pool] then
      local place = block.places[#block.places]
      local hint = data_files.hint(pool, known)
      problems:add(place.file, place.where, string.format("egress_pool '%s' is not defined%s", pool, hint))
    end
  end
  each_block(data.tenants, check)
  each_block(data.queues, check)
end

local function check_tenants(data, problems, files)
  if data.default_tenant and not data.tenants[data.default_tenant] then
    local hint = data_files.hint(data.default_tenant, data.tenants)
    problems:add(files[1], '', string.format("default_tenant '%s' is not defined%s", data.default_tenant, hint))
  end
  if next(data.tenants) == nil then
    return -- the policy names tenants in its own way
  end
  for _, at_domain in data_files.sorted(data.queues) do
    for tenant, block in data_files.sorted(at_domain.tenants) do
      local hint = data_files.hint(tenant, data.tenants)
      if not data.tenants[tenant] and hint ~= '' then
        local place = block.places[1]
        print(string.format('WARNING: %s: %s: there is no such tenant%s', place.file, place.where, hint))
      end
    end
  end
end

-- Monitored files have whole paths; what the policy names may be relative to where the node was started.
local function is_monitored(file, monitored)
  for _, path in ipairs(monitored) do
    if path == file or utils.ends_with(path, '/' .. file:gsub('^%./', '')) then
      return true
    end
  end
  return false
end

local function warn_of_unmonitored(files)
  local monitored = kumo.eval_config_monitor_globs()
  for _, file in ipairs(files) do
    if type(file) == 'string' and not is_monitored(file, monitored) then
      print(
        string.format(
          'WARNING: %s: edits take effect some time later, and are not checked before: '
            .. 'name it in kumo.set_config_monitor_globs',
          file
        )
      )
    end
  end
end

-- This file's handler takes every queue, so that no later one would be asked.
local function check_order(problems)
  local own = kumo.traceback(1)[1].short_src .. ':'
  local registrars = kumo.get_event_registrars 'get_queue_config' or {}
  local last = registrars[#registrars] or {}
  for _, frame in ipairs(last) do
    if utils.starts_with(frame, own) then
      return
    end
  end
  local where = {}
  for n, stack in ipairs(registrars) do
    where[n] = string.format('  %d: %s', n, table.concat(stack, ' < '))
  end
  table.insert(where, 1, 'the queue helper must be the last to handle get_queue_config; these do, in turn:')
  table.insert(problems.texts, table.concat(where, '\n'))
end

kumo.on('validate_config', function()
  if not queue.CONFIGURED then
    return
  end
  local options = queue.CONFIGURED.options
  local files = options.file_names or {}
  local data, problems = read(files)
  check_pools(data, problems)
  check_tenants(data, problems, files)
  warn_of_unmonitored(files)
  if not options.skip_queue_config_hook then
    check_order(problems)
  end
  problems:report 'the queue files'
end)

return queue
