-- Limits of memory.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  kumo.set_memory_hard_limit(4 * 1024 ^ 3)
  kumo.set_memory_soft_limit(3 * 1024 ^ 3)
  kumo.set_memory_low_thresh(2 * 1024 ^ 3)
  assert(kumo.get_memory_hard_limit() > kumo.get_memory_soft_limit())
  kumo.log_info(kumo.get_memory_low_thresh())
  kumo.enable_memory_callstack_tracking(false)
end)

kumo.on('init', function()
  kumo.suspend_delivery_when_spool_unhealthy(false)
end)
