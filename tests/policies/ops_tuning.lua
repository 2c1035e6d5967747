-- What the node may use; much of it is about threads that kumo-py does not have.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  local cpus = kumo.available_parallelism()
  kumo.set_httpinject_threads(cpus)
  kumo.set_smtpsrv_threads(cpus)
  kumo.set_qmaint_threads(cpus)
  kumo.set_ready_qmaint_threads(cpus)
  kumo.set_readyq_threads(cpus)
  kumo.set_spoolin_threads(cpus)
  kumo.set_logging_threads(cpus)
  kumo.spawn_thread_pool { name = 'deliver', num_threads = 4 }
  kumo.set_timeq_spawn_reinsertion(true)
  kumo.set_max_lua_context_age(600)
  kumo.set_max_lua_context_use_count(2048)
  kumo.set_max_spare_lua_contexts(100)
  kumo.set_lua_gc_on_put(1)
  kumo.set_lruttl_cache_capacity('dns_resolver_mx', 1000)
  assert(kumo.version >= '2024')
end)
