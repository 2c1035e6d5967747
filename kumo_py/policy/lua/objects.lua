-- What a policy holds in its hands: the `kumo` module, messages, connections, addresses, configurations.
--
-- A module or an object's methods are a table that is empty at first: Python is asked for each name when the policy
-- first uses it, so that a new context costs little.

local py, driver, top_modules = ...

local check, where, class = driver.check, driver.where, driver.class
local kinds, rawtype, getmetatable, waits = driver.kinds, driver.rawtype, driver.getmetatable, driver.waits
local isyieldable, yield = coroutine.isyieldable, coroutine.yield
local error, select, setmetatable, tostring, tonumber = error, select, setmetatable, tostring, tonumber
local next, rawget, rawset, concat, match = next, rawget, rawset, table.concat, string.match
local pairs, load, collectgarbage, string = pairs, load, collectgarbage, string
local ipairs, math_type, floor = ipairs, math.type, math.floor

local export = {}

-- By kind, what objects that keep nothing at [1] stand for: their content by object, weakly.
local contents_of = {}
driver.contents_of = contents_of

-- Python's functions ----------------------------------------------------------------------------------------
local makers = {} -- how a name of each kind becomes what Lua uses

local function lazy(owner)
  return setmetatable({}, {
    __metatable = false,
    __index = function(names, name)
      local kind, value = py.find(owner, tostring(name))
      if not kind then
        error(where() .. value, 0)
      end
      value = makers[kind](value, owner, name)
      rawset(names, name, value)
      return value
    end,
  })
end

local function must_be_able_to_wait(name)
  if not isyieldable() then
    error(
      where()
        .. name
        .. ' has to wait, which Lua forbids here: inside a callback of sort, gsub and the like,'
        .. ' and while a required module loads',
      0
    )
  end
end

function makers.constant(value)
  return value
end

function makers.module(value)
  return lazy(value)
end

function makers.sync(f)
  return function(...)
    return check(f(...))
  end
end

function makers.async(f, owner, name)
  waits[f] = true
  local label = owner .. '.' .. name
  return function(...)
    must_be_able_to_wait(label)
    return check(yield(f, ...))
  end
end

-- Methods get the Python object instead of the Lua one.
function makers.method(f)
  return function(self, ...)
    return check(f(rawtype(self) == 'table' and self[1], ...))
  end
end

function makers.async_method(f, owner, name)
  waits[f] = true
  local label = owner .. ':' .. name
  return function(self, ...)
    must_be_able_to_wait(label)
    return check(yield(f, rawtype(self) == 'table' and self[1], ...))
  end
end

-- A method that needs the content, which may be in the spool only.
function makers.content_method(f, owner, name)
  local load_message, lacks_content = py.load_message, py.lacks_content
  waits[load_message] = true
  local label = owner .. ':' .. name
  return function(self, ...)
    local obj = rawtype(self) == 'table' and self[1]
    if lacks_content(obj) then
      must_be_able_to_wait(label)
      local ok, message = yield(load_message, obj)
      if not ok then
        error(where() .. message, 0)
      end
    end
    return check(f(obj, ...))
  end
end

-- Objects of the kinds that Python declares: [1] is the Python object ------------------------------------------
local getters = setmetatable({}, { __mode = 'k' })

function makers.field(f)
  local function get(self)
    return check(f(self[1]))
  end
  getters[get] = true
  return get
end

local function bare(value)
  return rawtype(value) == 'table' and rawget(value, 1)
end

local function metamethod(f)
  return function(self, ...)
    return check(f(bare(self), ...))
  end
end

local function waiting_metamethod(f, label)
  waits[f] = true
  return function(self, ...)
    must_be_able_to_wait(label)
    return check(yield(f, bare(self), ...))
  end
end

-- Goes through a list of keys and values in turn.
local function in_pairs(list)
  local n = -1
  return function()
    n = n + 2
    return list[n], list[n + 1]
  end
end

local function object_class(kind)
  local mt = class(kind, kind)
  local members, setters = lazy(kind), {}
  local waiting, others, declared = py.kind(kind)
  for name, f in pairs(others) do
    mt['__' .. name] = metamethod(f)
  end
  for name, f in pairs(waiting) do
    mt['__' .. name] = waiting_metamethod(f, kind .. "'s __" .. name)
  end
  local index, list = mt.__index, mt.__pairs
  function mt:__index(name)
    if index and not declared[name] then
      return index(self, name)
    end
    local member = members[name]
    if getters[member] then
      return member(self)
    end
    return member
  end
  if list then
    function mt:__pairs()
      return in_pairs(list(self))
    end
  end
  if not mt.__newindex then
    function mt:__newindex(name, value)
      local set = setters[name]
      if not set then
        local ok
        ok, set = py.setter(kind, tostring(name))
        if not ok then
          error(where() .. set, 0)
        end
        setters[name] = set
      end
      check(set(self[1], value))
    end
  end
  return mt
end

local object_classes = setmetatable({}, {
  __index = function(classes, kind)
    local mt = object_class(kind)
    rawset(classes, kind, mt)
    return mt
  end,
})

function export.object(kind, obj)
  return setmetatable({ obj }, object_classes[kind])
end

function export.collect()
  collectgarbage()
end

-- Messages and connections ----------------------------------------------------------------------------------
local Message = class('message', 'Message')
local Connection = class('connection', 'ConnectionMeta')
Message.__index, Connection.__index = lazy 'message', lazy 'connection'

function export.message(obj)
  return setmetatable({ obj }, Message)
end

function export.connection(obj)
  return setmetatable({ obj }, Connection)
end

-- Addresses -------------------------------------------------------------------------------------------------
local Address = class('address', 'EnvelopeAddress')

function Address:__index(key)
  if key == 'email' then
    return self[1]
  end
  if key == 'user' or key == 'domain' then
    -- Whatever has a quote or a literal in it is left to the grammar.
    local user, domain = match(self[1], '^([^"@%[]+)@([^"@%[]+)$')
    if not user then
      user, domain = check(py.split_address(self[1]))
    end
    self.user, self.domain = user, domain
    return rawget(self, key)
  end
  if string[key] then
    error(where() .. 'an address is no string: its text is address.email, as in address.email:' .. key .. '()', 0)
  end
  error(where() .. "an address has user, domain and email, not '" .. tostring(key) .. "'", 0)
end

function Address:__tostring()
  return self[1]
end

function export.address(email)
  return setmetatable({ email }, Address)
end

-- Addresses in headers: [1] is the JSON that tostring gives.
local HeaderAddress = class('headeraddress', 'HeaderAddress')
local AddressHeader = class('addressheader', 'AddressHeader')
local header_keys = { user = true, domain = true, email = true, name = true }

function HeaderAddress:__index(key)
  if not header_keys[key] then
    error(where() .. "an address in a header has user, domain, email and name, not '" .. tostring(key) .. "'", 0)
  end
end

function AddressHeader:__index(key)
  if not header_keys[key] then
    error(
      where() .. "an address header has user, domain, email, name and list, not '" .. tostring(key) .. "'",
      0
    )
  end
  if self[2] then
    error(where() .. self[2], 0)
  end
  return self.list[1][key]
end

HeaderAddress.__tostring, AddressHeader.__tostring = Address.__tostring, Address.__tostring

function export.address_header(json, list, problem)
  for n = 1, #list do
    setmetatable(list[n], HeaderAddress)
  end
  return setmetatable({ json, problem or false, list = list }, AddressHeader)
end

-- Spans of time: [1] is nanoseconds, which integers add up exactly ------------------------------------------
local TimeDelta = class('timedelta', 'TimeDelta')
local delta_units = { milliseconds = 1000000, microseconds = 1000, nanoseconds = 1 }

function export.time_delta(nanoseconds)
  return setmetatable({ nanoseconds }, TimeDelta)
end

function TimeDelta:__index(key)
  local nanoseconds, unit = self[1], delta_units[key]
  if key == 'seconds' then
    return nanoseconds / 1e9
  elseif key == 'human' then
    return py.human(nanoseconds)
  elseif unit then
    return nanoseconds < 0 and -(-nanoseconds // unit) or nanoseconds // unit
  end
  error(
    where()
      .. 'a TimeDelta has seconds, milliseconds, microseconds, nanoseconds and human, not '
      .. tostring(key),
    0
  )
end

function TimeDelta:__tostring()
  return py.human(self[1])
end

local function nanoseconds_of(value)
  if getmetatable(value) ~= TimeDelta then
    error(where() .. 'a TimeDelta can be added to, subtracted from and compared with another one only', 0)
  end
  return value[1]
end

function TimeDelta.__add(a, b)
  return export.time_delta(nanoseconds_of(a) + nanoseconds_of(b))
end

function TimeDelta.__sub(a, b)
  return export.time_delta(nanoseconds_of(a) - nanoseconds_of(b))
end

function TimeDelta.__eq(a, b)
  return nanoseconds_of(a) == nanoseconds_of(b)
end

-- Configurations --------------------------------------------------------------------------------------------
local Config = class('config', 'Config')

local function plain(self)
  local values = rawget(self, 2)
  if not values then
    values = py.config_values(self[1])
    self[2] = values
  end
  return values
end

function Config:__index(key)
  return plain(self)[key]
end

function Config:__pairs()
  return next, plain(self), nil
end

function Config:__len()
  return #plain(self)
end

function Config:__newindex(key)
  error(
    where() .. "a finished configuration cannot be changed: give '" .. tostring(key) .. "' to the function that makes it",
    0
  )
end

function export.config(obj)
  return setmetatable({ obj, false }, Config)
end

-- Lists remember that they are lists, so that an empty one does not come back as a map. To a policy they have no
-- metatable: KumoMTA's own helpers look.
local Array = { __metatable = false }

function export.array(t)
  return setmetatable(t, Array)
end

function export.inspect(t)
  local mt = getmetatable(t)
  if mt == Array then
    return 'array'
  end
  local kind = kinds[mt]
  if kind then
    local contents = contents_of[kind]
    if contents then
      return kind, contents[t]
    end
    return kind, t[1]
  end
end

-- What Python kept of an object that is Lua's own.
function export.restore(kind, value)
  if kind == 'address' then
    return export.address(value)
  end
  return export.time_delta(value)
end

-- Rejections ------------------------------------------------------------------------------------------------
local modes = { If421 = true, FollowWith421 = true, ForceDisconnect = true }

local function rejection(name, code, text, mode)
  local kind = rawtype(text)
  local number = tonumber(code)
  if math_type(number) ~= 'integer' or number < 200 or number > 599 then
    error(where() .. name .. ': the code must be an integer from 200 to 599, got ' .. tostring(code), 0)
  end
  if kind ~= 'string' and kind ~= 'number' then
    error(where() .. name .. ': the message must be a string, got ' .. kind, 0)
  end
  if not modes[mode] then
    error(
      where() .. name .. ": the mode must be 'If421', 'FollowWith421' or 'ForceDisconnect', got " .. tostring(mode),
      0
    )
  end
  error(setmetatable({ code = number, text = tostring(text), mode = mode }, driver.Rejection), 0)
end

-- What is declared without a Python function ------------------------------------------------------------------
local own = { on = driver.on }
local owned = { kumo = own } -- by module or kind

function own.reject(code, text)
  rejection('kumo.reject', code, text, 'If421')
end

function own.disconnect(code, text, mode)
  rejection('kumo.disconnect', code, text, mode == nil and 'ForceDisconnect' or mode)
end

for _, level in ipairs { 'error', 'warn', 'info', 'debug' } do
  own['log_' .. level] = function(...)
    local parts = {}
    for n = 1, select('#', ...) do
      parts[n] = tostring((select(n, ...)))
    end
    py.diagnostic(level, where() .. concat(parts, ' '))
  end
end

function makers.lua(_, owner, name)
  local functions = owned[owner] or {}
  if not functions[name] then
    for key, f in pairs(load(py.lua_code(owner), '=kumo', 'b')(package.loaded.kumo, driver)) do
      functions[key] = f
    end
    owned[owner] = functions
  end
  return functions[name]
end

for _, name in ipairs(top_modules) do
  package.loaded[name] = lazy(name)
end

return export
