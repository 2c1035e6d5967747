-- Both spools with reserves of the disk.
local kumo = require 'kumo'

kumo.on('init', function()
  for _, name in ipairs { 'data', 'meta' } do
    kumo.define_spool {
      name = name,
      path = '/var/spool/example/' .. name,
      flush = false,
      min_free_space = '5%',
      min_free_inodes = 1000,
    }
  end
end)
