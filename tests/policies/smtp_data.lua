-- Looks at the whole transaction before it is split.
local kumo = require 'kumo'

kumo.on('smtp_server_data', function(msg, conn_meta)
  local recipients = msg:recipient_list()
  if #recipients > 10 and #msg:get_data() > 1000000 then
    kumo.reject(552, '5.3.4 too much for too many')
  end
  conn_meta:set_meta('recipients', #recipients)
end)

kumo.on('smtp_server_split_transaction', function(msg)
  local batches = {}
  for _, recipient in ipairs(msg:recipient_list()) do
    local n = recipient.domain:sub(1, 1) < 'm' and 1 or 2
    batches[n] = batches[n] or {}
    table.insert(batches[n], recipient)
  end
  local found = {}
  for _, batch in pairs(batches) do
    found[#found + 1] = batch
  end
  return found
end)
