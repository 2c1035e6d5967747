-- kumo.jsonl: tailers, whose filters are functions of the policy and stay with it.

local kumo, driver = ...

local where, rawtype = driver.where, driver.rawtype
local error, rawset, pairs, ipairs = error, rawset, pairs, ipairs

local functions = {}

local function checked(filter, what)
  if filter ~= nil and rawtype(filter) ~= 'function' then
    error(where() .. what .. ' must be a function, got ' .. rawtype(filter), 0)
  end
  return filter or false
end

-- Filters lie in [2] of the object, by consumer.
local function with_filters(tailer, filters)
  rawset(tailer, 2, filters)
  return tailer
end

function functions.new_tailer(options, filter)
  filter = checked(filter, "kumo.jsonl.new_tailer: argument 'filter'")
  return with_filters(kumo.jsonl._new_tailer(options, filter ~= false), { filter })
end

function functions.new_multi_tailer(options)
  local filters, filtered, plain, consumers = {}, {}, {}, {}
  if rawtype(options) == 'table' and rawtype(options.consumers) == 'table' then
    for n, consumer in ipairs(options.consumers) do
      if rawtype(consumer) == 'table' then
        local rest = {}
        for key, value in pairs(consumer) do
          if key ~= 'filter' then
            rest[key] = value
          end
        end
        filters[n] = checked(
          consumer.filter,
          "kumo.jsonl.new_multi_tailer: option 'consumers[" .. n .. "].filter'"
        )
        filtered[n] = filters[n] ~= false
        consumer = rest
      end
      consumers[n] = consumer
    end
    for key, value in pairs(options) do
      plain[key] = value
    end
    plain.consumers = consumers
    options = plain
  end
  return with_filters(kumo.jsonl._new_multi_tailer(options, filtered), filters)
end

return functions
