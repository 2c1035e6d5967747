local kumo = require 'kumo'

local helper = {}

function helper.greeting(name)
  return 'hello ' .. name
end

function helper.setup()
  kumo.on('get_egress_path_config', function()
    return kumo.make_egress_path {}
  end)
end

return helper
