-- Traffic shaping from TOML and JSON files, and its automation: log records go to TSA daemons (publish), and what those
-- decide comes back as shaping data and as suspensions and bounces (subscribe).
--
--   local shaper = shaping:setup_with_automation {
--     publish = { 'http://127.0.0.1:8008' }, subscribe = { 'http://127.0.0.1:8008' },
--     extra_files = { '/opt/kumomta/etc/policy/shaping.toml' },
--   }
--   kumo.on('init', function() shaper.setup_publish() end)
--   kumo.on('get_egress_path_config', shaper.get_egress_path_config)

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local sources = require 'policy-extras.sources'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local shaping = {}

local DEFAULT_FILE = '/opt/kumomta/share/policy-extras/shaping.toml'
local RETRY_SECONDS = 30 -- after a daemon failed, and between looks at what it says

-- Types of records that tell nothing of a destination.
local UNINTERESTING = {
  'AdminRebind',
  'DeferredInjectionRebind',
  'Delayed',
  'Reception',
  'Rejection',
  'XferIn',
  'XferOut',
}

local VALIDATION = {
  aliased_site = 'Warn',
  dns_fail = 'Warn',
  local_load = 'Error',
  null_mx = 'Warn',
  provider_overlap = 'Warn',
  remote_load = 'Ignore',
  skip_remote = true,
}

-- Options ---------------------------------------------------------------------------------------------------
local Bool, Texts = typing.option(typing.boolean), typing.option(typing.list(typing.string))
local Duration = typing.option(typing.variant(typing.string, typing.number))
local Table = typing.option(typing.map(typing.string, typing.any))

local FIELDS = {
  publish = Texts,
  subscribe = Texts,
  extra_files = Texts,
  no_default_files = Bool,
  pre_filter = Bool,
  skip_log_record_types = Texts,
  additional_skip_log_record_types = Texts,
  cache_ttl = Duration,
  allow_stale_shaping_data = Bool,
  retry_shaping_data_fetch_on_populate_timeout = Bool,
  shaping_data_populate_timeout = Duration,
  tsa_queue_config = Table,
  back_pressure = typing.option(typing.number),
  publish_timeout = Duration,
  publish_pool_idle_timeout = Duration,
  publish_connection_verbose = Bool,
  load_validation_options = Table,
  validation_options = Table,
}

local function set_of(list)
  local set = {}
  for _, item in ipairs(list) do
    set[item] = true
  end
  return set
end

-- Each file once, where it is named last: what it says would be laid over itself, and its rules would come twice.
local function without_repetitions(files)
  local seen, backwards, result = {}, {}, {}
  for n = #files, 1, -1 do
    if not seen[files[n]] then
      seen[files[n]] = true
      table.insert(backwards, files[n])
    end
  end
  for n = #backwards, 1, -1 do
    table.insert(result, backwards[n])
  end
  return result
end

local function files_of(options)
  local files = { not options.no_default_files and DEFAULT_FILE or nil }
  for _, file in ipairs(options.extra_files or {}) do
    table.insert(files, file)
  end
  for _, url in ipairs(options.subscribe or {}) do
    table.insert(files, url .. '/get_config_v1/shaping.toml')
  end
  return without_repetitions(files)
end

-- Publishing ------------------------------------------------------------------------------------------------
-- One log hook and one queue for each daemon, named after its URL.
local function hooks_of(options)
  local hooks = {}
  for _, url in ipairs(options.publish or {}) do
    local name = url .. '.tsa.kumomta'
    hooks[name] = { url = url, constructor = 'make.' .. name }
  end
  return hooks
end

local function make_publisher(url, options)
  local client = kumo.http.build_client {
    timeout = options.publish_timeout or '1 minute',
    pool_idle_timeout = options.publish_pool_idle_timeout or '90 seconds',
    connection_verbose = options.publish_connection_verbose,
  }
  local publisher = {}

  function publisher:send(msg)
    local response = client
      :post(url .. '/publish_log_v1')
      :header('Content-Type', 'application/json')
      :body(msg:get_data())
      :send()
    local said = string.format('%d %s: %s', response:status_code(), response:status_reason() or '', response:text())
    if not response:status_is_success() then
      kumo.reject(400, said) -- it is tried again
    end
    return said
  end

  return publisher
end

local function is_wanted(record, hooks, skipped, options, load)
  if record.reception_protocol == 'LogRecord' or hooks[record.queue] or skipped[record.type] then
    return false
  elseif options.pre_filter == false then
    return true
  end
  local ok, matches = pcall(function()
    return #load():match_rules(record) > 0
  end)
  return ok and matches
end

local function publish(hooks, skipped, options, load)
  if next(hooks) == nil then
    return
  end
  for _, hook in pairs(hooks) do
    kumo.on(hook.constructor, function()
      return make_publisher(hook.url, options)
    end)
  end

  kumo.on('should_enqueue_log_record', function(msg, hook_name)
    if hooks[hook_name] then
      local wanted = is_wanted(msg:get_meta 'log_record', hooks, skipped, options, load)
      if wanted then
        msg:set_meta('queue', hook_name)
      end
      return wanted
    end
  end)

  kumo.on('get_queue_config', function(domain)
    local hook = hooks[domain]
    if hook then
      local params = { retry_interval = '1m', max_retry_interval = '20m' }
      utils.merge_into(options.tsa_queue_config, params)
      params.protocol = { custom_lua = { constructor = hook.constructor } }
      return kumo.make_queue_config(params)
    end
  end)
end

-- Subscribing -----------------------------------------------------------------------------------------------
local function reason_of(item)
  return string.format('%s (rule_hash=%s)', item.reason, item.rule_hash)
end

local function of_scheduled_queues(item)
  return {
    campaign = item.campaign,
    domain = item.domain,
    tenant = item.tenant,
    reason = reason_of(item),
    expires = item.expires,
  }
end

-- What a daemon may tell us to do, by the key of the event; its older protocol has other keys.
local ACTIONS = {
  ReadyQSuspension = function(item)
    kumo.api.admin.suspend_ready_q.suspend {
      name = item.site_name,
      reason = reason_of(item),
      expires = item.expires,
    }
  end,
  SchedQSuspension = function(item)
    kumo.api.admin.suspend.suspend(of_scheduled_queues(item))
  end,
  SchedQBounce = function(item)
    kumo.api.admin.bounce.bounce(of_scheduled_queues(item))
  end,
}
ACTIONS.ReadyQ, ACTIONS.SchedQ = ACTIONS.ReadyQSuspension, ACTIONS.SchedQSuspension

local function apply(event)
  for key, item in pairs(kumo.json_parse(event)) do
    if not ACTIONS[key] then
      error(string.format("the daemon speaks of '%s', which this version does not know", key), 0)
    end
    ACTIONS[key](item)
  end
end

-- One event that makes no sense does not keep the others from taking effect.
local function apply_all(events)
  for _, event in ipairs(events) do
    local ok, err = pcall(apply, event)
    if not ok then
      kumo.log_error(string.format('TSA event %s: %s', event, err))
    end
  end
end

-- Follows a daemon's events until the connection ends, which is an error.
local function follow(url)
  local base = url:gsub('^http', 'ws')
  local ok, stream = pcall(kumo.http.connect_websocket, base .. '/subscribe_event_v1')
  if ok then
    while true do
      apply_all(stream:recv_batch '3s')
    end
  end
  if not tostring(stream):find('HTTP error: 404', 1, true) then
    error(stream, 0)
  end
  kumo.log_warn(url .. ' has no subscribe_event_v1: an older daemon, which tells of suspensions only')
  stream = kumo.http.connect_websocket(base .. '/subscribe_suspension_v1')
  while true do
    local event = stream:recv()
    if not event then
      error('the daemon closed the connection', 0)
    end
    apply_all { event }
  end
end

kumo.on('kumo.tsa.suspension.subscriber', function(args)
  while true do
    local _, err = pcall(follow, args[1])
    kumo.log_error(string.format('TSA daemon %s: %s; trying again in %d seconds', args[1], err, RETRY_SECONDS))
    kumo.sleep(RETRY_SECONDS)
  end
end)

-- A new epoch begins whenever the daemons have changed the data, so that the queues ask again.
kumo.on('kumo.tsa.config.monitor', function()
  local last
  while true do
    local ok, hash = pcall(function()
      return shaping.CONFIGURED.load_shaping_data():hash()
    end)
    if not ok then
      kumo.log_error(string.format('loading shaping data: %s; trying again in %d seconds', hash, RETRY_SECONDS))
    else
      if last and last ~= hash then
        kumo.log_info 'the shaping data has changed'
        kumo.bump_config_epoch()
      end
      last = hash
    end
    collectgarbage() -- Lua does not know how large what it holds is
    kumo.sleep(RETRY_SECONDS)
  end
end)

-- Setting up ------------------------------------------------------------------------------------------------
--- Shaping from files alone: the handler for get_egress_path_config.
function shaping:setup(extra_files)
  if type(extra_files) == 'string' then
    extra_files = { extra_files }
  end
  return self:setup_with_automation({ extra_files = extra_files }).get_egress_path_config
end

local function checked(options)
  local problems = data_files.problems()
  local result = problems:fields('shaping:setup_with_automation', '', options or {}, FIELDS)
  local queue = {}
  utils.merge_into(result.tsa_queue_config, queue)
  problems:options('shaping:setup_with_automation', 'tsa_queue_config', kumo.make_queue_config, queue)
  problems:raise()
  return result
end

--- See above; KumoMTA documents the options. Once a policy.
function shaping:setup_with_automation(options)
  if shaping.CONFIGURED then
    error('shaping may be set up once: give it all files', 2)
  end
  options = checked(options)
  local files, hooks = files_of(options), hooks_of(options)
  local skipped = set_of(options.skip_log_record_types or UNINTERESTING)
  utils.merge_into(set_of(options.additional_skip_log_record_types or {}), skipped)

  local load_shaping_data = data_files.kept({
    name = 'shaping_data',
    ttl = options.cache_ttl or '1 minute',
    retry_on_populate_timeout = options.retry_shaping_data_fetch_on_populate_timeout,
    populate_timeout = options.shaping_data_populate_timeout,
    allow_stale_reads = options.allow_stale_shaping_data,
  }, files, function()
    local data = kumo.shaping.load(files, options.load_validation_options)
    for _, err in ipairs(data:get_errors()) do
      kumo.log_error(err)
    end
    for _, warning in ipairs(data:get_warnings()) do
      kumo.log_warn(warning)
    end
    return data
  end)

  publish(hooks, skipped, options, load_shaping_data)

  --- `skip_make` returns the parameters as a table, for tests of policies.
  local function get_egress_path_config(domain, egress_source, site_name, skip_make)
    local params = load_shaping_data():get_egress_path_config(domain, egress_source, site_name)
    params.refresh_strategy = params.refresh_strategy or 'Epoch'
    return skip_make and params or kumo.make_egress_path(params)
  end

  --- To be called in init: begins to publish and to subscribe.
  local function setup_publish()
    local per_record = {}
    for kind in pairs(skipped) do
      per_record[kind] = { enable = false }
    end
    for name in pairs(hooks) do
      kumo.configure_log_hook { name = name, per_record = per_record, back_pressure = options.back_pressure }
    end
    for _, url in ipairs(options.subscribe or {}) do
      kumo.spawn_task { event_name = 'kumo.tsa.suspension.subscriber', args = { url } }
    end
    if options.subscribe and #options.subscribe > 0 then
      kumo.spawn_task { event_name = 'kumo.tsa.config.monitor', args = {} }
    end
  end

  shaping.CONFIGURED = {
    files = files,
    validation_options = options.validation_options or VALIDATION,
    load_shaping_data = load_shaping_data,
    get_egress_path_config = get_egress_path_config,
    setup_publish = setup_publish,
  }
  return shaping.CONFIGURED
end

-- Validating ------------------------------------------------------------------------------------------------
local function check_sources(data, problems)
  local ok, known = pcall(sources.CONFIGURED.get_data)
  if not ok then
    return -- the sources helper says so itself
  end
  for source, blocks in data_files.sorted(data:get_referenced_sources()) do
    local is_example = source == 'my source name' and blocks[1] == 'domain:example.com' -- in KumoMTA's own file
    if not known.sources[source] and source ~= 'unspecified' and not is_example then
      local hint = data_files.hint(source, known.sources)
      problems.texts[#problems.texts + 1] =
        string.format("%s: source '%s' is not defined%s", table.concat(blocks, ', '), source, hint)
    end
  end
end

kumo.on('validate_config', function()
  local configured = shaping.CONFIGURED
  if not configured then
    return
  end
  local problems = data_files.problems()
  local ok, data = pcall(kumo.shaping.load, configured.files, configured.validation_options)
  if not ok then
    problems.texts[1] = data_files.complaint(data)
  else
    problems.texts = data:get_errors()
    if sources.CONFIGURED then
      check_sources(data, problems)
    end
    for _, warning in ipairs(data:get_warnings()) do
      print('WARNING: ' .. warning)
    end
  end
  problems:report('the shaping files: ' .. table.concat(configured.files, ', '))
end)

return shaping
