-- Types for tables that people write: records, lists and maps that refuse what does not belong into them.
--
-- A type has `name`, and `type:validate_value(value)`, which gives true and the value as it is to be kept, or false and
-- what is wrong. Called as a function, a type makes a value of its own, or raises an error at the caller's line.

local kumo = require 'kumo'
local typing = {}

-- What is wrong ---------------------------------------------------------------------------------------------
local function shown(value)
  if type(value) == 'string' then
    return "'" .. value .. "'"
  elseif type(value) == 'table' or type(value) == 'userdata' then
    local ok, json = pcall(kumo.json_encode, value)
    return ok and json or tostring(value)
  end
  return tostring(value)
end

-- "file:line: " of the innermost function that is not in this file.
local function place()
  local frames = kumo.traceback(1)
  for _, frame in ipairs(frames) do
    if frame.curr_line and frame.source ~= frames[1].source and frame.source ~= '=kumo' then
      return string.format('%s:%d: ', frame.short_src, frame.curr_line)
    end
  end
  return ''
end

-- The problem inside comes on lines of its own.
local function problem(text, inner)
  if inner == nil then
    return text
  end
  return text .. '\n  ' .. tostring(inner):gsub('\n', '\n  ')
end

local function raise(text)
  error(place() .. text, 0)
end

local function unexpected(wanted, value)
  return string.format("Expected '%s', got '%s' %s", wanted, type(value), shown(value))
end

-- Makes a type callable.
local function callable(ty, make)
  return setmetatable(ty, {
    __call = function(_, value)
      return make(value)
    end,
  })
end

local function checked(ty)
  return callable(ty, function(value)
    local ok, result = ty:validate_value(value)
    if not ok then
      raise(result)
    end
    return result
  end)
end

-- Scalars ---------------------------------------------------------------------------------------------------
local function scalar(name)
  local ty = { name = name }

  function ty:validate_value(value)
    if type(value) == name then
      return true, value
    end
    return false, unexpected(name, value)
  end

  return checked(ty)
end

typing.number = scalar 'number'
typing.string = scalar 'string'
typing.boolean = scalar 'boolean'
typing.Function = scalar 'function'

typing.any = checked {
  name = 'Any',
  validate_value = function(_, value)
    return true, value
  end,
}

--- One of the given strings.
function typing.enum(name, ...)
  local choices = { ... }
  local known, names = {}, {}
  for n, choice in ipairs(choices) do
    known[choice], names[n] = true, shown(choice)
  end
  local ty = { name = name, variants = choices }

  function ty:validate_value(value)
    if value ~= nil and known[value] then
      return true, value
    end
    return false,
      string.format("Unexpected '%s' value %s, expected one of %s", name, shown(value), table.concat(names, ', '))
  end

  return checked(ty)
end

-- Types made of others --------------------------------------------------------------------------------------
--- nil, or a value of the type.
function typing.option(target)
  local ty = { name = string.format('option<%s>', target.name), is_optional = true, target = target }

  function ty:validate_value(value)
    if value == nil then
      return true
    end
    return target:validate_value(value)
  end

  return checked(ty)
end

--- A value of the type; a field of a record that is not given has `default_value`.
function typing.default(target, default_value)
  local ty = { name = target.name, default_value = default_value, target = target }

  function ty:validate_value(value)
    if value == nil then
      return true, default_value
    end
    return target:validate_value(value)
  end

  return checked(ty)
end

--- A value of any one of at least two types: the first that takes it.
function typing.variant(...)
  local variants, names = { ... }, {}
  if #variants < 2 then
    error(string.format('typing.variant takes two types or more, got %d', #variants), 2)
  end
  for n, one in ipairs(variants) do
    names[n] = one.name
  end
  local ty = { name = string.format('variant<%s>', table.concat(names, ',')), variants = variants }

  function ty:validate_value(value)
    local problems = {}
    for n, one in ipairs(variants) do
      local ok, result = one:validate_value(value)
      if ok then
        return true, result
      end
      problems[n] = result
    end
    return false,
      problem(
        string.format("Unexpected '%s' value %s: no variant takes it", ty.name, shown(value)),
        table.concat(problems, '\n')
      )
  end

  return checked(ty)
end

-- Containers ------------------------------------------------------------------------------------------------
-- A container's values have the type as their metatable. `ty.construct` makes one of a plain table.
local function container(ty)
  function ty:validate_value(value)
    local mt = getmetatable(value)
    if mt == ty then
      return true, value
    elseif type(value) ~= 'table' and type(value) ~= 'userdata' or mt and mt.name then
      local kind = type(mt) == 'table' and mt.name or type(value)
      return false,
        string.format("Expected value of type '%s' but got type '%s' with value %s", ty.name, kind, shown(value))
    end
    local ok, made = pcall(ty.construct, ty, value)
    if ok then
      return true, made
    end
    return false, problem(string.format("Expected value of type '%s'", ty.name), made)
  end

  return callable(ty, function(value)
    if type(value) ~= 'table' and type(value) ~= 'userdata' then
      raise(unexpected(ty.name, value))
    end
    return ty:construct(value)
  end)
end

local function keep(container_value, label, key, ty, value)
  local ok, result = ty:validate_value(value)
  if not ok then
    raise(problem(label, result))
  end
  rawset(container_value, key, result)
end

--- Values of one type at 1, 2, …
function typing.list(item)
  local ty = { name = string.format('list<%s>', item.name), value_type = item }

  function ty.__newindex(list, index, value)
    if math.type(index) ~= 'integer' then
      raise(string.format('%s: invalid index %s', ty.name, shown(index)))
    end
    keep(list, string.format('%s: invalid value for idx %d', ty.name, index), index, item, value)
  end

  function ty:construct(params)
    local list = setmetatable({}, ty)
    for index, value in ipairs(params) do
      list[index] = value
    end
    return list
  end

  return container(ty)
end

--- Values of one type by keys of another.
function typing.map(key_type, value_type)
  local ty = {
    name = string.format('map<%s,%s>', key_type.name, value_type.name),
    key_type = key_type,
    value_type = value_type,
  }

  function ty.__newindex(map, key, value)
    local ok, result = key_type:validate_value(key)
    if not ok then
      raise(problem(string.format('%s: invalid key %s', ty.name, shown(key)), result))
    end
    keep(map, string.format('%s: invalid value for key %s', ty.name, shown(key)), result, value_type, value)
  end

  function ty:construct(params)
    local map = setmetatable({}, ty)
    for key, value in pairs(params) do
      map[key] = value
    end
    return map
  end

  return container(ty)
end

--- Fields, each with its type. A function at `_dynamic` is asked for all others, with name and value: it returns true,
--- or false and what is wrong with the value, or false alone if there is no such field.
function typing.record(name, fields)
  local ty = { name = name, fields = fields }
  local dynamic = fields._dynamic

  local function known(key)
    return key ~= '_dynamic' and fields[key] or nil
  end

  function ty.__index(_, key)
    if not known(key) and not dynamic then
      raise(string.format("%s: attempt to read unknown field '%s'", name, tostring(key)))
    end
  end

  function ty.__newindex(record, key, value)
    local field = known(key)
    if field then
      keep(record, string.format("%s: invalid value for field '%s'", name, key), key, field, value)
      return
    end
    local ok, wrong
    if dynamic then
      ok, wrong = dynamic(key, value)
    end
    if ok then
      rawset(record, key, value)
    elseif wrong then
      raise(problem(string.format("%s: invalid value for field '%s'", name, tostring(key)), wrong))
    else
      raise(string.format("%s: unknown field '%s'", name, tostring(key)))
    end
  end

  function ty:construct(params)
    local record = setmetatable({}, ty)
    for key, value in pairs(params) do
      record[key] = value
    end
    for key, field in pairs(fields) do
      if known(key) and rawget(record, key) == nil then
        if field.default_value ~= nil then
          record[key] = field.default_value
        elseif not field.is_optional then
          raise(string.format("%s: missing value for field '%s' of type '%s'", name, key, field.name))
        end
      end
    end
    return record
  end

  return container(ty)
end

--- What kumo.make_… and the like say of an option, without the place in the policy and the function's name.
function typing.extract_deserialize_error(err)
  local text = tostring(err)
  return text:match '^.-: kumo%.[%w_.]+: (.*)$' or text
end

return typing
