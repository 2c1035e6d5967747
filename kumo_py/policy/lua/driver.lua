-- Runs handlers in coroutines on behalf of Python, and makes what Python declares callable from Lua.
--
-- Python calls an entry; it runs the handler until that is done, fails, or waits. The answer is nothing at
-- all for a handler that returned no value, else a code and what belongs to it. To wait is to yield a Python
-- coroutine function and its arguments; Python awaits it and calls `continue` with (ok, values...).
--
-- A Python function answers (true, values...) or (false, message): Python exceptions never cross Lua, since they
-- would lose the policy's file and line.

local py, options = ...

local DONE, WAIT, REJECTED, FAILED, STOPPED = 0, 1, 2, 3, 4

local debug, coroutine, rawtype = debug, coroutine, type
local getinfo, getmetatable, sethook = debug.getinfo, debug.getmetatable, debug.sethook
local create, resume, yield, close = coroutine.create, coroutine.resume, coroutine.yield, coroutine.close
local isyieldable = coroutine.isyieldable
local clock, rawget, rawset, select = os.clock, rawget, rawset, select
local error, pcall, tostring = error, pcall, tostring
local concat, pack, unpack = table.concat, table.pack, table.unpack
local setmetatable, pairs, ipairs = setmetatable, pairs, ipairs

-- As in KumoMTA there is no debug library: with it a policy could take the guard off.
_G.debug, package.loaded.debug = nil, nil
_G.python, package.loaded.python = nil, nil
package.path = options.path_prefix .. package.path

local PRELUDE = getinfo(1, 'S').source

-- What runs now ---------------------------------------------------------------------------------------------
local active          -- the coroutine of the event that runs or waits
local idle            -- one that has finished its event and may be used again
local current         -- the handler, or the policy's main chunk
local since           -- CPU seconds when the guard first saw this run; nil before
local stopped = false -- the guard has spoken

-- "file:line: " of a stack level; of the handler as a whole, when a tail call has wiped out its line.
local function where(level)
  local info
  repeat
    level = level + 1
    info = getinfo(level, 'Sl')
  until not info or info.what ~= 'C' -- such as pcall
  if info and info.source ~= PRELUDE then
    return info.short_src .. ':' .. info.currentline .. ': '
  end
  if current then
    info = getinfo(current, 'S')
    local lines = info.linedefined
    if info.lastlinedefined > lines then
      lines = lines .. '-' .. info.lastlinedefined
    end
    return info.short_src .. ':' .. lines .. ': '
  end
  return ''
end

-- What Python answered: the values, or an error at the policy's line. Always called as a tail call by a
-- function that the policy called, so that the policy is one level up.
local function check(ok, ...)
  if ok then
    return ...
  end
  error(where(2) .. tostring((...)), 0)
end

-- The guard -------------------------------------------------------------------------------------------------
local GUARD_INTERVAL = 200000 -- VM instructions: 1 to 10 ms
local budget = options.cpu_budget

local function guard()
  local now = clock()
  if not since then
    since = now
  elseif stopped or now - since > budget then
    -- From now on at every instruction, so that no pcall loop outlives it.
    stopped = true
    sethook(guard, '', 1)
    error(where(2) .. 'stopped after ' .. budget .. ' s of CPU time', 0)
  end
end

-- Coroutines ------------------------------------------------------------------------------------------------
local waits = {} -- Python's coroutine functions, as a set

local function new_coroutine(f)
  local co = create(f)
  sethook(co, guard, '', GUARD_INTERVAL)
  return co
end

-- A policy's own coroutines are guarded too, and pass on what waits.
local function pass_on(co, ...)
  local ok, tag = ...
  if ok and tag ~= nil and waits[tag] then
    return pass_on(co, resume(co, yield(select(2, ...))))
  end
  return ...
end

local function policy_resume(co, ...)
  return pass_on(co, resume(co, ...))
end

local function unwrap(co, ok, ...)
  if ok then
    return ...
  end
  close(co)
  error((...), 0)
end

coroutine.create = new_coroutine
coroutine.resume = policy_resume
function coroutine.wrap(f)
  local co = new_coroutine(f)
  return function(...)
    return unwrap(co, policy_resume(co, ...))
  end
end

local function work(handler, ...)
  return work(yield(DONE, handler(...)))
end

-- Objects ---------------------------------------------------------------------------------------------------
-- An object is a table with its Python object in [1], or something that stands for it. To a policy it is
-- userdata, as in KumoMTA.
local kinds = {} -- metatable to kind

local function class(kind, name)
  local mt = { __name = name, __metatable = false }
  kinds[mt] = kind
  return mt
end

function type(value)
  local kind = rawtype(value)
  if kind == 'table' and kinds[getmetatable(value)] then
    return 'userdata'
  end
  return kind
end

-- Errors ----------------------------------------------------------------------------------------------------
local Rejection = class('rejection', 'Rejection')
function Rejection:__tostring()
  return self.code .. ' ' .. self.text
end

local function describe(err)
  local kind = rawtype(err)
  if kind == 'string' or kind == 'number' then
    return tostring(err)
  end
  local ok, text = pcall(tostring, err)
  return 'error object: ' .. (ok and text or kind)
end

-- The traceback without what says nothing to the policy's author.
local noise = { '^\t' .. PRELUDE:sub(2) .. ':', '^\t%[C%]: in %?', "^\t%[C%]: in function 'error'", '^\t%(%.%.%.tail' }

local function trace(co, text)
  local lines = { text }
  for line in debug.traceback(co):gmatch '[^\n]+' do
    local keep = true
    for _, pattern in ipairs(noise) do
      keep = keep and not line:find(pattern)
    end
    if keep then
      lines[#lines + 1] = line
    end
  end
  if #lines == 2 then
    return text
  end
  return concat(lines, '\n')
end

local function failed(co, err)
  active = nil
  if getmetatable(err) == Rejection then
    close(co)
    return REJECTED, err.code, err.text, err.mode
  end
  local text = trace(co, describe(err))
  close(co)
  if stopped or text:find('not enough memory', 1, true) then
    return STOPPED, text
  end
  return FAILED, text
end

local function settle(co, ok, tag, ...)
  if not ok then
    return failed(co, tag)
  end
  if tag ~= DONE then
    return WAIT, tag, ...
  end
  idle, active = co, nil
  if select('#', ...) == 0 then
    return
  end
  return DONE, ...
end

local function start(f, ...)
  since, stopped = nil, false
  local co = idle
  if co then
    idle = nil
  else
    co = new_coroutine(work)
  end
  active = co
  return settle(co, resume(co, f, ...))
end

-- Handlers --------------------------------------------------------------------------------------------------
local handlers = {} -- event name to function, or to a list of them
local multiple = options.multiple

-- The first handler that returns any value at all, even nil, ends the chain.
local function stop_or_go_on(list, n, args, ...)
  if select('#', ...) > 0 or n == #list then
    return ...
  end
  current = list[n + 1]
  return stop_or_go_on(list, n + 1, args, current(unpack(args, 1, args.n)))
end

local function chain(list)
  return function(...)
    current = list[1]
    return stop_or_go_on(list, 1, pack(...), current(...))
  end
end

local function place(f)
  local info = getinfo(f, 'S')
  return info.short_src .. ':' .. info.linedefined
end

local function on(name, f)
  if rawtype(name) ~= 'string' or rawtype(f) ~= 'function' then
    error(
      where(2)
        .. 'kumo.on takes the name of an event and a function, got '
        .. rawtype(name)
        .. ' and '
        .. rawtype(f),
      0
    )
  end
  local event = rawget(_G, '_KUMO_CURRENT_EVENT')
  if event and event ~= 'main' then
    error(
      where(2)
        .. "kumo.on('"
        .. name
        .. "') is called in the handler of '"
        .. event
        .. "'; handlers are registered while the policy loads, at the top level of its file",
      0
    )
  end
  local present = handlers[name]
  if multiple[name] then
    if present then
      present[#present + 1] = f
    else
      handlers[name] = { f }
    end
  elseif present then
    error(where(2) .. "the event '" .. name .. "' has a handler already, at " .. place(present), 0)
  else
    handlers[name] = f
  end
end

-- What runs an event's handlers; nil without any. With `first` and `second` the arguments are one or two Python
-- objects that these make Lua objects of.
local function entry(event, first, second)
  local handler = handlers[event]
  if not handler then
    return nil
  end
  if rawtype(handler) == 'table' then
    handler = handler[2] and chain(handler) or handler[1]
  end
  if second then
    return function(a, b)
      rawset(_G, '_KUMO_CURRENT_EVENT', event)
      current = handler
      return start(handler, first(a), second(b))
    end
  end
  if first then
    return function(a)
      rawset(_G, '_KUMO_CURRENT_EVENT', event)
      current = handler
      return start(handler, first(a))
    end
  end
  return function(...)
    rawset(_G, '_KUMO_CURRENT_EVENT', event)
    current = handler
    return start(handler, ...)
  end
end

-- Indexing something that is not there is an error that offers the nearest name.
local function strict(owner, names)
  return setmetatable(names, {
    __metatable = false,
    __index = function(_, name)
      error(where(2) .. py.unknown(owner, tostring(name)), 0)
    end,
  })
end

-- Python's functions ----------------------------------------------------------------------------------------
local function sync(f)
  return function(...)
    return check(f(...))
  end
end

local function async(f, name)
  waits[f] = true
  return function(...)
    if not isyieldable() then
      error(
        where(2)
          .. name
          .. ' has to wait, which Lua forbids here: inside a callback of sort, gsub and the like,'
          .. ' and while a required module loads',
        0
      )
    end
    return check(yield(f, ...))
  end
end

-- Methods get the Python object instead of the Lua one.
local function method(f)
  return function(self, ...)
    return check(f(rawtype(self) == 'table' and self[1], ...))
  end
end

return {
  check = check,
  where = where,
  class = class,
  strict = strict,
  sync = sync,
  async = async,
  method = method,
  on = on,
  entry = entry,
  Rejection = Rejection,
  kinds = kinds,
  rawtype = rawtype,
  getmetatable = getmetatable,
  waits = waits,

  start = function(f)
    current = f
    return start(f)
  end,
  continue = function(...)
    since = nil
    return settle(active, resume(active, ...))
  end,
  events = function()
    local names = {}
    for name in pairs(handlers) do
      names[#names + 1] = name
    end
    return unpack(names)
  end,
  handler_place = function()
    return current and place(current) or ''
  end,
}
