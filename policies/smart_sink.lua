-- A sink that answers as mailbox providers do: it accepts, defers, bounces, hangs up or takes its time.
-- What it does for whom is in smart_sink.toml; policies/README.md explains both.
--
--   kumo-py serve --policy policies/smart_sink.lua
--
-- Environment: KUMO_SINK_LISTEN (ip:port, default 127.0.0.1:2026)
--              KUMO_SINK_DIR    (spool, and logs if KUMO_SINK_LOG is set; default /tmp/kumo-py-sink)
--              KUMO_SINK_LOG    (set: log receptions and refusals, with the generator's trace header)
--              KUMO_SINK_RULES  (default policies/smart_sink.toml)
--              KUMO_SINK_SEED   (integer: the n-th message for a provider always meets the same fate)
--              KUMO_SINK_JUDGE  (data: at the end of the message; rcpt: at RCPT TO; default: as the rules say, or data)
local kumo = require 'kumo'

local dir = os.getenv 'KUMO_SINK_DIR' or '/tmp/kumo-py-sink'
local rules_file = os.getenv 'KUMO_SINK_RULES' or 'policies/smart_sink.toml'
local seed = os.getenv 'KUMO_SINK_SEED'
if seed then
  seed = math.tointeger(tonumber(seed)) or error 'KUMO_SINK_SEED must be an integer'
end

-- The rules -----------------------------------------------------------------------------------------------
local FATES = { 'bounce', 'defer', 'drop', 'tarpit' }
local STOCK = {
  bounce = { { code = 550, text = '5.1.1 no such user here' } },
  defer = { { code = 451, text = '4.3.2 try again later' } },
  drop = { { code = 421, text = '4.4.2 connection dropped' } },
}
local KEYS = {
  domains = true,
  bounce = true,
  defer = true,
  drop = true,
  tarpit = true,
  tarpit_seconds = true,
  max_message_rate = true,
  max_messages_per_connection = true,
  replies = true,
}

local function wrong(where, what, ...)
  error(string.format('%s: %s: ' .. what, rules_file, where, ...), 0)
end

-- Replies of one kind, each as often as its weight says.
local function weighted(where, given, stock)
  local list = {}
  for _, reply in ipairs(given or stock) do
    local code = reply.code
    if math.type(code) ~= 'integer' or code < 400 or code > 599 or type(reply.text) ~= 'string' then
      wrong(where, 'a reply has a code from 400 to 599 and a text')
    end
    for _ = 1, reply.weight or 1 do
      list[#list + 1] = reply
    end
  end
  return list
end

local function only(where, given, known)
  for key in pairs(given) do
    if not known[key] then
      wrong(where, "there is no option '%s'", key)
    end
  end
end

local function provider(name, given)
  local replies = given.replies or {}
  only(name, given, KEYS)
  only(name .. '.replies', replies, STOCK)
  local made = {
    name = name,
    replies = {},
    tarpit_seconds = given.tarpit_seconds or 10,
    rate = given.max_message_rate,
    per_connection = given.max_messages_per_connection,
  }
  local sum = 0
  for _, fate in ipairs(FATES) do
    -- The draw is a number below 100; each fate has the part of it up to its bound.
    sum = sum + (given[fate] or 0)
    made[fate] = sum
    if STOCK[fate] then
      made.replies[fate] = weighted(name, replies[fate], STOCK[fate])
    end
  end
  if sum > 100 then
    wrong(name, 'bounce, defer, drop and tarpit together are %g percent', sum)
  end
  made.plain = sum == 0 and not made.rate and not made.per_connection
  return made
end

local rules = kumo.serde.toml_load(rules_file)
only('top level', rules, { judge = true, default = true, provider = true })
local judge = os.getenv 'KUMO_SINK_JUDGE' or rules.judge or 'data'
if judge ~= 'data' and judge ~= 'rcpt' then
  wrong('judge', "write 'data' or 'rcpt', not '%s'", judge)
end
local default = provider('default', rules.default or {})
local by_domain = {}
for name, given in pairs(rules.provider or {}) do
  local made = provider(name, given)
  for _, domain in ipairs(given.domains or {}) do
    by_domain[domain:lower()] = made
  end
end

-- What a recipient's local part asks for -------------------------------------------------------------------
local function asked_for(user)
  local word, seconds = user:match '^(%a+)%-?(%d*)$'
  if word == 'tarpit' then
    kumo.time.sleep(tonumber(seconds) or default.tarpit_seconds)
    return true
  elseif word == 'drop' then
    kumo.disconnect(421, '4.4.2 connection dropped as asked for')
  end
  local code, rest = user:match '^([245]%d%d)%-?(.*)$'
  if code then
    if code:sub(1, 1) == '2' then
      return true
    end
    kumo.reject(math.tointeger(code), rest == '' and 'as asked for' or (rest:gsub('[-_]', ' ')))
  end
  if user:find('tempfail', 1, true) then
    kumo.reject(450, '4.0.0 temporary failure as asked for')
  elseif user:find('permfail', 1, true) then
    kumo.reject(550, '5.0.0 permanent failure as asked for')
  end
  return false
end

-- What the provider's rules say ----------------------------------------------------------------------------
-- splitmix64: neighbouring numbers give unrelated ones.
local function mixed(number)
  number = number * 0x9E3779B97F4A7C15
  number = (number ~ (number >> 30)) * 0xBF58476D1CE4E5B9
  number = (number ~ (number >> 27)) * 0x94D049BB133111EB
  return number ~ (number >> 31)
end

-- A number from 0 up to 100, and an integer. With a seed they depend on how many came for the provider before.
local function draw(to)
  if not seed then
    return math.random() * 100, math.random(0, 1 << 30)
  end
  local seen = to.seen
  if not seen then
    -- One counter for all Lua contexts.
    seen = kumo.counter_series.define { name = 'smart_sink.' .. to.name, num_buckets = 1, bucket_size = '36500d' }
    to.seen = seen
    to.key = mixed(seed)
    for position = 1, #to.name do
      to.key = mixed(to.key + to.name:byte(position))
    end
  end
  seen:increment(1)
  local number = mixed(to.key + seen:sum())
  return (number >> 11) * 0x1p-53 * 100, number & 0xFFFFFFFF
end

local function refuse(reply)
  kumo.reject(reply.code, reply.text)
end

local function meets(to, conn_meta)
  local number, choice = draw(to)
  local replies = to.replies
  local function one_of(list)
    return list[choice % #list + 1]
  end
  if to.per_connection then
    local count = (conn_meta:get_meta 'judged' or 0) + 1
    conn_meta:set_meta('judged', count)
    if count > to.per_connection then
      kumo.reject(421, '4.7.0 too many messages on this connection, closing transmission channel')
    end
  end
  if to.rate then
    to.throttle = to.throttle or kumo.make_throttle('smart_sink.' .. to.name, 'local:' .. to.rate)
    if to.throttle:throttle().throttled then
      refuse(one_of(replies.defer))
    end
  end
  if number < to.bounce then
    refuse(one_of(replies.bounce))
  elseif number < to.defer then
    refuse(one_of(replies.defer))
  elseif number < to.drop then
    local reply = one_of(replies.drop)
    kumo.disconnect(reply.code, reply.text)
  elseif number < to.tarpit then
    kumo.time.sleep(to.tarpit_seconds)
  end
end

-- Nearly every local part neither holds the word `fail` nor begins with a digit, `tarpit` or `drop`.
local function judged(recipient, conn_meta)
  local user = recipient.user
  local first = user:byte(1) or 0
  if first < 58 or first == 116 or first == 100 or user:find('fail', 1, true) then
    if asked_for(user) then
      return
    end
  end
  local to = by_domain[recipient.domain:lower()] or default
  if not to.plain then
    meets(to, conn_meta)
  end
end

-- The node -------------------------------------------------------------------------------------------------
kumo.on('init', function()
  -- Nothing is ever stored, but a node has a spool.
  kumo.define_spool { name = 'data', path = dir .. '/data' }
  kumo.define_spool { name = 'meta', path = dir .. '/meta' }
  kumo.set_config_monitor_globs { rules_file }

  if os.getenv 'KUMO_SINK_LOG' then
    kumo.configure_local_logs {
      log_dir = dir .. '/logs',
      headers = { 'X-Traffic-Gen' },
      per_record = {
        Reception = { enable = true },
        Rejection = { enable = true },
        Any = { enable = false },
      },
    }
  end

  kumo.start_esmtp_listener {
    listen = os.getenv 'KUMO_SINK_LISTEN' or '127.0.0.1:2026',
    relay_hosts = { '127.0.0.0/8', '::1' },
    max_messages_per_connection = 1000000,
    max_message_size = 100 * 1024 * 1024,
    trace_headers = { received_header = false, supplemental_header = false },
  }
end)

if judge == 'rcpt' then
  kumo.on('smtp_server_rcpt_to', judged)
  kumo.on('smtp_server_message_received', function(msg)
    msg:set_meta('queue', 'null')
  end)
else
  kumo.on('smtp_server_message_received', function(msg, conn_meta)
    judged(msg:recipient(), conn_meta)
    msg:set_meta('queue', 'null')
  end)
end
