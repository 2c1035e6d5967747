-- What happened lately.
local kumo = require 'kumo'

local function series(name)
  return kumo.counter_series.define { name = name, num_buckets = 6, bucket_size = '10s', initial_value = 0 }
end

kumo.on('init', function()
  local received = series 'received'
  received:increment(3)
  received:delta(-1)
  assert(received:sum() == 2 and received:sum_over '10s' == 2)
  local level = series 'level'
  level:observe(7)
  assert(level:sum() == 7)
end)
