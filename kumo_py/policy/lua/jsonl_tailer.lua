-- A tailer of kumo.jsonl: its batches.

local _, driver = ...

local where = driver.where
local error, rawget = error, rawget

local functions = {}

-- For each filter, which records it lets through.
local function judgement(filters, records)
  local verdicts = {}
  for n = 1, #filters do
    local filter = filters[n]
    if filter then
      local verdict = {}
      for m = 1, #records do
        verdict[m] = filter(records[m]) and true or false
      end
      verdicts[#verdicts + 1] = verdict
    end
  end
  return verdicts
end

function functions.batches(self)
  local filters = rawget(self, 2)
  if not filters then
    error(where() .. 'a tailer is of use only in the Lua context that made it: its filters are there', 0)
  end
  return function()
    while true do
      local batches, records = self:_next()
      if not records then
        return batches
      end
      self:_judge(judgement(filters, records))
    end
  end
end

return functions
