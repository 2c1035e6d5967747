-- Which edits count.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.set_config_monitor_globs { 'data/*.toml', '/opt/kumomta/etc/**/*.lua' }
  assert(#kumo.eval_config_monitor_globs() >= 0)
end)

kumo.on('something.changed', function()
  kumo.bump_config_epoch()
end)
