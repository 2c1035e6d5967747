-- Runs handlers in coroutines on behalf of Python, and makes what Python declares callable from Lua.
--
-- Python calls an entry; it runs the handler until that is done, fails, or waits. The answer is nothing at
-- all for a handler that returned no value, else a code and what belongs to it. To wait is to yield a Python
-- coroutine function and its arguments; Python awaits it and calls `continue` with (ok, values...).
--
-- A Python function answers (true, values...) or (false, message): Python exceptions never cross Lua, since they
-- would lose the policy's file and line.

local options = ...

local DONE, WAIT, REJECTED, FAILED, STOPPED = 0, 1, 2, 3, 4

local debug, coroutine, rawtype = debug, coroutine, type
local getinfo, getmetatable, sethook = debug.getinfo, debug.getmetatable, debug.sethook
local create, resume, yield, close = coroutine.create, coroutine.resume, coroutine.yield, coroutine.close
local isyieldable = coroutine.isyieldable
local clock, rawget, rawset, select = os.clock, rawget, rawset, select
local error, tostring = error, tostring
local concat, pack, unpack = table.concat, table.pack, table.unpack
local find, gmatch, traceback = string.find, string.gmatch, debug.traceback
local collectgarbage, setmetatable, pairs, ipairs = collectgarbage, setmetatable, pairs, ipairs

-- As in KumoMTA there is no debug library: with it a policy could take the guard off.
_G.debug, package.loaded.debug = nil, nil
_G.python, package.loaded.python = nil, nil
package.path = options.path_prefix .. package.path

-- Modules are read once for all contexts of an epoch (see PolicySource). policy-extras are ours, unless the policy
-- itself put a place with its own in front of the package.path that it was given.
do
  local searchpath, known_module, add_module = package.searchpath, options.known_module, options.add_module
  local our_module, given, sub = options.our_module, package.path, string.sub
  local load, error = load, error

  local function file_of(name)
    local ours = our_module(name)
    if not ours then
      return searchpath(name, package.path)
    end
    local start = find(package.path, given, 1, true)
    local added = start and sub(package.path, 1, start - 1) or package.path
    return added ~= '' and searchpath(name, added) or ours
  end

  package.searchers[2] = function(name)
    local path, code = known_module(name)
    if not path then
      local problem
      path, problem = file_of(name)
      if not path then
        return problem
      end
      code, problem = add_module(name, path)
      if not code then
        error(problem, 0)
      end
    end
    return load(code, nil, 'b'), path
  end
end

local PRELUDE = getinfo(1, 'S').source

-- What runs now ---------------------------------------------------------------------------------------------
local active          -- the coroutine of the event that runs or waits
local idle            -- one that has finished its event and may be used again
local current         -- the handler, or the policy's main chunk
local since           -- CPU seconds when the guard first saw this run; nil before
local stopped         -- what the guard said when it stopped this run

-- "file:line: " of the policy's innermost function; of the handler as a whole, when tail calls have wiped that out.
local function where()
  local level, info = 1, nil
  repeat
    level = level + 1
    info = getinfo(level, 'Sl')
  until not info or (info.what ~= 'C' and info.source ~= PRELUDE)
  if info then
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

-- The guard -------------------------------------------------------------------------------------------------
-- It sees neither the inside of one C function nor finalizers, where Lua calls no hook. Memory has a second, higher
-- limit in Lua's allocator for what grows between two looks; Python must never run into that one (see Limits).
local GUARD_INTERVAL = 20000 -- VM instructions: 0.03 ms of sums to 0.6 ms of strings (measured)
local budget, memory = options.cpu_seconds, options.memory_kib

-- Why this run has to stop, if it has to; CPU time is counted since the guard first looked.
local function must_stop()
  if not stopped then
    local now = clock()
    since = since or now
    if now - since > budget then
      stopped = where() .. 'stopped after ' .. budget .. ' s of CPU time'
    elseif collectgarbage 'count' > memory then
      collectgarbage()
      if collectgarbage 'count' > memory then
        stopped = where() .. 'stopped with more than ' .. memory // 1024 .. ' MiB of memory in use'
      end
    end
  end
  return stopped
end

local function guard()
  if must_stop() then
    error(stopped, 0)
  end
end

-- A coroutine that must stop yields for good where it can: to unwind a deep stack of pcalls takes quadratic time.
local waits = {} -- what Python awaits when it is yielded, as a set
local STOP = {}
waits[STOP] = true

local function stop()
  if isyieldable() then
    yield(STOP)
  end
  error(stopped, 0)
end

-- What catches errors asks the guard after each, so that no loop around a pcall outlives it. It covers two more
-- places where Lua calls no hook: where errors are handled, and at the limit of nested calls.
local function caught(ok, ...)
  if not ok and must_stop() then
    stop()
  end
  return ok, ...
end

-- What Python answered: the values, or an error at the policy's line.
local function check(ok, ...)
  if ok then
    if collectgarbage 'count' > memory and must_stop() then
      stop()
    end
    return ...
  end
  error(where() .. tostring((...)), 0)
end

local pcall, xpcall = pcall, xpcall

function _G.pcall(...)
  return caught(pcall(...))
end

function _G.xpcall(f, handler, ...)
  return caught(xpcall(f, function(err)
    if must_stop() then
      return err
    end
    return handler(err)
  end, ...))
end

-- Coroutines ------------------------------------------------------------------------------------------------
sethook(guard, '', GUARD_INTERVAL) -- for what runs outside of any: an error's own tostring

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
  return caught(...)
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

-- What is to be closed is left alone in a coroutine that was stopped: it would run without a guard.
function coroutine.close(co)
  if stopped then
    error(stopped, 0)
  end
  return close(co)
end

coroutine.create = new_coroutine
coroutine.resume = policy_resume
function coroutine.wrap(f)
  local co = new_coroutine(f)
  return function(...)
    return unwrap(co, policy_resume(co, ...))
  end
end

-- A coroutine that waits for its next event must hold nothing of the last one, neither as an argument nor as what it
-- yielded: so the call is left here for it to take.
local call, call_first, call_second

local function one()
  local f, a = call, call_first
  call_first = nil
  return f(a)
end

local function two()
  local f, a, b = call, call_first, call_second
  call_first, call_second = nil, nil
  return f(a, b)
end

local function many()
  local args = call_first
  call_first = nil
  return call(unpack(args, 1, args.n))
end

local step -- which of these

local function work()
  while true do
    yield(DONE, step())
  end
end

-- Objects ---------------------------------------------------------------------------------------------------
-- An object is a table with what it stands for in [1]: a Python object, a number, a string. To a policy it is
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
  for line in gmatch(traceback(co), '[^\n]+') do
    local keep = true
    for _, pattern in ipairs(noise) do
      keep = keep and not find(line, pattern)
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
  if stopped then
    return STOPPED, trace(co, stopped)
  end
  if getmetatable(err) == Rejection then
    close(co)
    return REJECTED, err.code, err.text, err.mode
  end
  local text = trace(co, describe(err))
  close(co)
  return find(text, 'not enough memory', 1, true) and STOPPED or FAILED, text
end

local function settle(co, ok, tag, ...)
  if not ok then
    return failed(co, tag)
  end
  if tag == STOP then
    return STOPPED, trace(co, stopped)
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

local function start(event, handler, how, first, second)
  rawset(_G, '_KUMO_CURRENT_EVENT', event)
  since, stopped = nil, nil
  current, call, call_first, call_second, step = handler, handler, first, second, how
  local co = idle
  if co then
    idle = nil
  else
    co = new_coroutine(work)
  end
  active = co
  return settle(co, resume(co))
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

-- Who registered handlers: for each event a list of call stacks.
local registrars = {}

local function remember_registrar(name)
  local stack, level = {}, 3
  local info = getinfo(level, 'Sl')
  while info do
    stack[#stack + 1] = info.short_src .. ':' .. info.currentline
    level = level + 1
    info = getinfo(level, 'Sl')
  end
  local list = registrars[name] or {}
  registrars[name] = list
  list[#list + 1] = stack
end

local function on(name, f)
  if rawtype(name) ~= 'string' or rawtype(f) ~= 'function' then
    error(
      where()
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
      where()
        .. "kumo.on('"
        .. name
        .. "') is called in the handler of '"
        .. event
        .. "'; handlers are registered while the policy loads, at the top level of its file",
      0
    )
  end
  local present = handlers[name]
  remember_registrar(name)
  if multiple[name] then
    if present then
      present[#present + 1] = f
    else
      handlers[name] = { f }
    end
  elseif present then
    error(where() .. "the event '" .. name .. "' has a handler already, at " .. place(present), 0)
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
      return start(event, handler, two, first(a), second(b))
    end
  elseif first then
    return function(a)
      return start(event, handler, one, first(a))
    end
  end
  return function(...)
    return start(event, handler, many, pack(...))
  end
end

-- Objects that a handler made -----------------------------------------------------------------------------
local function call_method(object, name, optional, ...)
  local f = object[name]
  if f == nil and optional then
    return ''
  end
  if rawtype(f) ~= 'function' then
    error("the object has no method '" .. name .. "': define `function object:" .. name .. "(...) … end`", 0)
  end
  current = f
  return f(object, ...)
end

return {
  call_method = function(label, ...)
    return start(label, call_method, many, pack(...))
  end,
  check = check,
  where = where,
  class = class,
  on = on,
  entry = entry,
  Rejection = Rejection,
  kinds = kinds,
  rawtype = rawtype,
  getmetatable = getmetatable,
  waits = waits,
  getinfo = getinfo,
  registrars = registrars,
  registered_at = function(name)
    return registrars[name][1][1]
  end,

  start = function(f)
    return start(nil, f, many, { n = 0 })
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
