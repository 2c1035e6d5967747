-- What a policy holds in its hands: messages, connections, addresses, configurations, and the `kumo` module.

local py, driver = ...

local check, where, class, strict = driver.check, driver.where, driver.class, driver.strict
local sync, async, method = driver.sync, driver.async, driver.method
local kinds, rawtype, getmetatable = driver.kinds, driver.rawtype, driver.getmetatable
local isyieldable, yield = coroutine.isyieldable, coroutine.yield
local error, select, setmetatable, tostring = error, select, setmetatable, tostring
local next, rawget, concat, match = next, rawget, table.concat, string.match
local ipairs, math_type, floor = ipairs, math.type, math.floor
local loaded = package.loaded

local export = {}

-- Messages and connections ----------------------------------------------------------------------------------
local methods = {}
local classes = {}

local function object_class(kind, name)
  local mt = class(kind, name)
  methods[kind] = strict(kind, {})
  mt.__index = methods[kind]
  classes[kind] = mt
  return mt
end

local Message = object_class('message', 'Message')
local Connection = object_class('connection', 'ConnectionMeta')

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

-- Spans of time: [1] is seconds ----------------------------------------------------------------------------
local TimeDelta = class('timedelta', 'TimeDelta')
local delta_units = { milliseconds = 1e3, microseconds = 1e6, nanoseconds = 1e9 }

function export.time_delta(seconds)
  return setmetatable({ seconds }, TimeDelta)
end

function TimeDelta:__index(key)
  if key == 'seconds' then
    return self[1]
  elseif key == 'human' then
    return py.human(self[1])
  elseif delta_units[key] then
    return floor(self[1] * delta_units[key])
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

local function seconds_of(value)
  if getmetatable(value) ~= TimeDelta then
    error(where() .. 'a TimeDelta can be added to, subtracted from and compared with another one only', 0)
  end
  return value[1]
end

function TimeDelta.__add(a, b)
  return export.time_delta(seconds_of(a) + seconds_of(b))
end

function TimeDelta.__sub(a, b)
  return export.time_delta(seconds_of(a) - seconds_of(b))
end

function TimeDelta.__eq(a, b)
  return seconds_of(a) == seconds_of(b)
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

-- Lists remember that they are lists, so that an empty one does not come back as a map.
local Array = {}

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
    return kind, t[1]
  end
end

-- Rejections ------------------------------------------------------------------------------------------------
local modes = { If421 = true, FollowWith421 = true, ForceDisconnect = true }

local function rejection(name, code, text, mode)
  local kind = rawtype(text)
  if math_type(code) ~= 'integer' or code < 200 or code > 599 then
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
  error(setmetatable({ code = code, text = tostring(text), mode = mode }, driver.Rejection), 0)
end

export.lua_functions = {
  ['kumo.on'] = driver.on,
  ['kumo.reject'] = function(code, text)
    rejection('kumo.reject', code, text, 'If421')
  end,
  ['kumo.disconnect'] = function(code, text, mode)
    rejection('kumo.disconnect', code, text, mode == nil and 'ForceDisconnect' or mode)
  end,
}

for _, level in ipairs { 'error', 'warn', 'info', 'debug' } do
  export.lua_functions['kumo.log_' .. level] = function(...)
    local parts = {}
    for n = 1, select('#', ...) do
      parts[n] = tostring((select(n, ...)))
    end
    py.diagnostic(level, where() .. concat(parts, ' '))
  end
end

-- Putting it together ---------------------------------------------------------------------------------------
local modules = { kumo = strict('kumo', {}) }
loaded.kumo = modules.kumo

-- Called once per declared module, parents first.
function export.module(path, parent, name)
  modules[path] = strict(path, {})
  modules[parent][name] = modules[path]
end

function export.constant(path, name, value)
  modules[path][name] = value
end

function export.sync(path, name, f)
  modules[path][name] = sync(f)
end

function export.async(path, name, f)
  modules[path][name] = async(f, path .. '.' .. name)
end

function export.lua(path, name)
  modules[path][name] = export.lua_functions[path .. '.' .. name]
end

function export.method(kind, name, f)
  methods[kind][name] = method(f)
end

-- A method that needs the content, which may be in the spool only.
function export.content_method(kind, name, f)
  local load_message = py.load_message
  driver.waits[load_message] = true
  methods[kind][name] = function(self, ...)
    local obj = rawtype(self) == 'table' and self[1]
    if py.lacks_content(obj) then
      if not isyieldable() then
        error(where() .. 'msg:' .. name .. ' must read the spool, which has to wait: Lua forbids that here', 0)
      end
      local ok, message = yield(load_message, obj)
      if not ok then
        error(where() .. message, 0)
      end
    end
    return check(f(obj, ...))
  end
end

return export
