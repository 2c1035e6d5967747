-- Log records to a webhook, or to any Lua code: each record becomes a message in a queue of its own, which is tried
-- again when delivery fails.
--
--   log_hooks:new_json { name = 'webhook', url = 'http://192.0.2.1:4242/log' }
--
-- Call these at the top level of the policy, before the queue helper is set up.

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local log_hooks = { CONFIGURED = {} } -- by name

local Number, Table = typing.option(typing.number), typing.option(typing.map(typing.string, typing.any))

local COMMON = { name = typing.string, log_parameters = Table, queue_config = Table }
local NEW = {
  constructor = typing.Function,
  filter = typing.option(typing.Function),
  batch_size = Number,
  min_batch_size = Number,
  max_batch_latency = typing.option(typing.variant(typing.string, typing.number)),
}
local NEW_JSON = { url = typing.string }
utils.merge_into(COMMON, NEW)
utils.merge_into(COMMON, NEW_JSON)
local DISPOSITION = { name = typing.string, hook = typing.Function }

-- The options, if all are right and the name is new; else an error at the line that called `method`.
local function checked(method, options, fields)
  local problems, label = data_files.problems(), 'log_hooks:' .. method
  local result = problems:fields(label, '', options, fields)
  for name, field in data_files.sorted(fields) do
    if not field.is_optional and (type(options) ~= 'table' or options[name] == nil) then
      problems:add(label, '', string.format("option '%s' is required", name))
    end
  end
  if result.queue_config then
    problems:options(label, 'queue_config', kumo.make_queue_config, result.queue_config)
  end
  if result.name and log_hooks.CONFIGURED[result.name] then
    problems:add(label, '', string.format("there is a hook named '%s' already", result.name))
  end
  if #problems.texts > 0 then
    error(table.concat(problems.texts, '\n'), 3)
  end
  log_hooks.CONFIGURED[result.name] = result
  return result
end

-- The queue of a hook's records is named so that no domain of the DNS can be meant.
local function register(options)
  local queue = options.name .. '.log_hook'
  local constructor = 'make.' .. queue

  local params = { retry_interval = '1m', max_retry_interval = '20m' }
  utils.merge_into(options.queue_config, params)
  params.protocol = {
    custom_lua = {
      constructor = constructor,
      batch_size = options.batch_size or 1,
      min_batch_size = options.min_batch_size,
      max_batch_latency = options.max_batch_latency,
    },
  }
  local queue_config = kumo.make_queue_config(params)

  kumo.on('pre_init', function()
    local parameters = { name = options.name }
    utils.merge_into(options.log_parameters, parameters)
    kumo.configure_log_hook(parameters)
  end)

  kumo.on('should_enqueue_log_record', function(msg, hook_name)
    if hook_name ~= options.name then
      return
    elseif msg:get_meta('log_record').reception_protocol == 'LogRecord' then
      return false -- a record of the delivery of a record
    elseif options.filter and options.filter(msg, hook_name) then
      return false
    end
    msg:set_meta('queue', queue)
    return true
  end)

  kumo.on('get_queue_config', function(domain)
    if domain == queue then
      return queue_config
    end
  end)

  kumo.on(constructor, options.constructor)
end

--- Gives each record to what options.constructor(domain, tenant, campaign) returns: a table with a method send or
--- send_batch. options.filter(msg, hook_name) returns true for what is not wanted.
function log_hooks:new(options)
  register(checked('new', options, NEW))
end

-- Whether the same request may be answered otherwise later (RFC 9110 §15.5.9, §15.6; RFC 8470 §5.2; RFC 6585 §4).
local function passes(status)
  return status >= 500 or status == 408 or status == 425 or status == 429
end

--- POSTs each record to options.url, and again by the queue's schedule while the server fails or cannot be reached.
--- A record that the server does not want (400, 404 and the like) is given up.
function log_hooks:new_json(options)
  options = checked('new_json', options, NEW_JSON)
  local url = options.url

  function options.constructor()
    local client = kumo.http.build_client {}
    local connection = {}

    function connection:send(msg)
      local response =
        client:post(url):header('Content-Type', 'application/json'):body(msg:get_data()):send()
      local said =
        string.format('%d %s: %s', response:status_code(), response:status_reason() or '', response:text())
      if not response:status_is_success() then
        kumo.reject(passes(response:status_code()) and 450 or 550, said)
      end
      return said
    end

    function connection:close()
      client:close()
    end

    return connection
  end

  register(options)
end

--- Calls options.hook(msg, log_record) for each record, at once.
function log_hooks:new_disposition_hook(options)
  options = checked('new_disposition_hook', options, DISPOSITION)
  kumo.on('pre_init', function()
    kumo.configure_log_disposition_hook { name = options.name }
  end)
  kumo.on('log_disposition_' .. options.name, options.hook)
end

return log_hooks
