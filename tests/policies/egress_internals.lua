-- Options about refreshing and memory.
local kumo = require 'kumo'

kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {
    refresh_interval = '5m',
    refresh_strategy = 'Epoch',
    dispatcher_wakeup_strategy = 'Relaxed',
    maintainer_wakeup_strategy = 'Relaxed',
    low_memory_reduction_policy = 'ShrinkData',
    no_memory_reduction_policy = 'ShrinkDataAndMeta',
    readyq_pool_name = 'deliver',
  }
end)
