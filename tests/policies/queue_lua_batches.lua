-- Delivery by Lua, a hundred messages at once.
local kumo = require 'kumo'

kumo.on('get_queue_config', function()
  return kumo.make_queue_config {
    protocol = {
      custom_lua = {
        constructor = 'deliver.batch',
        batch_size = 100,
        min_batch_size = 10,
        max_batch_latency = '2s',
      },
    },
  }
end)

kumo.on('deliver.batch', function()
  local connection = {}
  function connection:send_batch(messages)
    local ids = {}
    for _, msg in ipairs(messages) do
      ids[#ids + 1] = msg:id()
    end
    return table.concat(ids, ' ')
  end
  return connection
end)
