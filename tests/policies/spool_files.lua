-- A file for each message; a look at each of them at start.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.define_spool { name = 'data', path = '/var/spool/example/data', kind = 'LocalDisk' }
  kumo.define_spool { name = 'meta', path = '/var/spool/example/meta', kind = 'LocalDisk' }
end)

kumo.on('spool_message_enumerated', function(msg)
  if msg:recipient().domain == 'retired.example' then
    msg:set_meta('queue', 'null')
  end
  msg:set_meta('tenant', msg:get_meta 'tenant' or 'unknown')
end)
