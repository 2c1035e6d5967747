-- Values from one task to another.
local kumo = require 'kumo'

kumo.on('init', function()
  local queue = kumo.mpsc.define('work', 4)
  queue:send { id = 1 }
  queue:send_timeout('two', 1)
  assert(queue:try_send(3) and queue:len() == 3 and not queue:is_empty())
  assert(queue:recv().id == 1 and queue:try_recv() == 'two')
  assert(#queue:recv_many(10) == 1 and queue:is_empty() and not queue:is_closed())
  kumo.spawn_task { event_name = 'worker', args = { 'work' } }
end)

kumo.on('worker', function(args)
  local queue = kumo.mpsc.define(args[1])
  while true do
    local batch = queue:recv_many(100)
    if not batch then
      return
    end
    kumo.log_info(#batch)
  end
end)

kumo.on('validate_config', function()
  local once = kumo.mpsc.define 'once'
  once:close()
  assert(once:is_closed() and once:recv() == nil)
end)
