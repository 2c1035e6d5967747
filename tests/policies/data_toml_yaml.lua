-- TOML and YAML.
local kumo = require 'kumo'

kumo.on('init', function()
  local value = { limits = { shop = 5 }, names = { 'a', 'b' } }
  for _, encode in ipairs { kumo.serde.toml_encode, kumo.serde.toml_encode_pretty, kumo.serde.toml_encode_pretty_compact } do
    assert(kumo.serde.toml_parse(encode(value)).limits.shop == 5)
  end
  assert(kumo.toml_parse(kumo.toml_encode(value)).names[2] == 'b')
  assert(kumo.toml_parse(kumo.toml_encode_pretty(value)).names[1] == 'a')
  assert(kumo.serde.toml_load('data/shaping.toml').default.connection_limit == 10)
  assert(kumo.toml_load('data/shaping.toml').default.connection_limit == 10)
  assert(kumo.serde.yaml_parse(kumo.serde.yaml_encode(value)).names[1] == 'a')
  assert(kumo.serde.yaml_load('data/tenants.yaml').shop.pool == 'green')
end)
