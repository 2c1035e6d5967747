-- JSON, by both names.
local kumo = require 'kumo'

kumo.on('init', function()
  local value = kumo.serde.json_parse [[{ "list": [1, 2], "text": "ü" /* and a comment */ }]]
  assert(value.list[2] == 2)
  assert(kumo.serde.json_encode { a = 1 } == '{"a":1}')
  assert(kumo.serde.json_encode_pretty({ a = 1 }):find '\n')
  assert(kumo.json_parse('[true]')[1] and kumo.json_encode { true } == '[true]')
  assert(#kumo.json_encode_pretty {} > 0)
  assert(kumo.serde.json_load('data/tenants.json').shop.pool == 'blue')
  assert(kumo.json_load('data/tenants.json').shop.pool == 'blue')
end)
