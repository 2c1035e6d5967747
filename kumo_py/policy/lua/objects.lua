-- What a policy holds in its hands: messages, connections, addresses, configurations, and the `kumo` module.

local py, driver = ...

local check, where, class, strict = driver.check, driver.where, driver.class, driver.strict
local sync, async, method = driver.sync, driver.async, driver.method
local kinds, rawtype, getmetatable = driver.kinds, driver.rawtype, driver.getmetatable
local isyieldable, yield = coroutine.isyieldable, coroutine.yield
local error, select, setmetatable, tostring = error, select, setmetatable, tostring
local next, rawget, concat, match = next, rawget, table.concat, string.match
local ipairs, math_type = ipairs, math.type
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
  error(where(2) .. "an address has user, domain and email, not '" .. tostring(key) .. "'", 0)
end

function Address:__tostring()
  return self[1]
end

function export.address(email)
  return setmetatable({ email }, Address)
end

function export.addresses(...)
  local list = { ... }
  for n = 1, #list do
    list[n] = setmetatable({ list[n] }, Address)
  end
  return list
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
    where(2) .. "a finished configuration cannot be changed: give '" .. tostring(key) .. "' to the function that makes it",
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
    error(where(3) .. name .. ': the code must be an integer from 200 to 599, got ' .. tostring(code), 0)
  end
  if kind ~= 'string' and kind ~= 'number' then
    error(where(3) .. name .. ': the message must be a string, got ' .. kind, 0)
  end
  if not modes[mode] then
    error(
      where(3) .. name .. ": the mode must be 'If421', 'FollowWith421' or 'ForceDisconnect', got " .. tostring(mode),
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
    py.diagnostic(level, where(2) .. concat(parts, ' '))
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
        error(where(2) .. 'msg:' .. name .. ' must read the spool, which has to wait: Lua forbids that here', 0)
      end
      local ok, message = yield(load_message, obj)
      if not ok then
        error(where(2) .. message, 0)
      end
    end
    return check(f(obj, ...))
  end
end

return export
