-- What is in `kumo` but not in every policy: memoized functions and looks at the call stack.

local kumo, driver = ...

local class, kinds, contents_of, where = driver.class, driver.kinds, driver.contents_of, driver.where
local rawtype, getmetatable, getinfo = driver.rawtype, driver.getmetatable, driver.getinfo
local setmetatable, pcall, error, next, tostring = setmetatable, pcall, error, next, tostring
local math_tointeger = math.tointeger

local functions = {}

-- Tables from a cache ---------------------------------------------------------------------------------------
-- All calls of a context share one table, so the policy gets a stand-in: to write to it copies what is behind it.
local Memoized = class('memoized', 'MemoizedTable')
local behind = setmetatable({}, { __mode = 'k' })
contents_of.memoized = behind

local function stand_in(value)
  if rawtype(value) ~= 'table' or kinds[getmetatable(value)] then
    return value
  end
  local new = setmetatable({}, Memoized)
  behind[new] = value
  return new
end

function Memoized:__index(key)
  return stand_in(behind[self][key])
end

function Memoized:__newindex(key, value)
  local copy = {}
  for k, v in next, behind[self] do
    copy[k] = v
  end
  copy[key] = value
  behind[self] = copy
end

function Memoized:__len()
  local n = 0
  for _ in next, behind[self] do
    n = n + 1
  end
  return n
end

function Memoized:__pairs()
  local values, key, value = behind[self], nil, nil
  return function()
    key, value = next(values, key)
    return key, stand_in(value)
  end
end

-- kumo.memoize ----------------------------------------------------------------------------------------------
local tables = setmetatable({}, { __mode = 'v' }) -- by their numbers in the caches

-- What the cache has, as the policy gets it.
local function found(cache, state, value)
  if state == 'table' then
    local made = tables[value]
    if not made then
      made = cache:table(value)
      tables[value] = made
    end
    return stand_in(made)
  end
  return value
end

local function computed(cache, number, ok, ...)
  if ok then
    return cache:fill(number, ...)
  end
  local err = ...
  local state, value = cache:fail(number, tostring(err))
  if state == 'error' then
    error(err, 0)
  end
  return state, value
end

function functions.memoize(func, params)
  if rawtype(func) ~= 'function' then
    error(where() .. 'kumo.memoize: the first argument must be a function, got ' .. rawtype(func), 0)
  end
  local cache = kumo._memo_cache(params)
  return function(...)
    local state, value = cache:find(...)
    while state == 'wait' or state == 'fill' do
      if state == 'fill' then
        state, value = computed(cache, value, pcall(func, ...))
      else
        state, value = cache:wait(...)
      end
    end
    return found(cache, state, value)
  end
end

-- Call stacks -----------------------------------------------------------------------------------------------
function functions.traceback(level)
  local frames = {}
  local n = math_tointeger(level)
  if not n or n < 0 or n > 1000000 then
    error(where() .. "kumo.traceback: argument 'level' must be an integer from 0 to 1000000, got " .. tostring(level), 0)
  end
  n = n + 1
  local info = getinfo(n, 'nSlt')
  while info do
    frames[#frames + 1] = {
      event = 'Unknown',
      name = info.name,
      name_what = info.namewhat,
      source = info.source,
      short_src = info.short_src,
      line_defined = info.linedefined >= 0 and info.linedefined or nil,
      last_line_defined = info.lastlinedefined >= 0 and info.lastlinedefined or nil,
      what = info.what,
      curr_line = info.currentline >= 0 and info.currentline or nil,
      is_tail_call = info.istailcall,
    }
    n = n + 1
    info = getinfo(n, 'nSlt')
  end
  return frames
end

function functions.get_event_registrars(name)
  if rawtype(name) ~= 'string' then
    error(where() .. "kumo.get_event_registrars: argument 'event' must be a string, got " .. rawtype(name), 0)
  end
  return driver.registrars[name]
end

return functions
