-- Lines for operators.
local kumo = require 'kumo'

kumo.on('pre_init', function()
  kumo.set_diagnostic_log_filter 'info,lua=debug'
  kumo.log_error('an', 'error', 1)
  kumo.log_warn 'a warning'
  kumo.log_info('version', kumo.version)
  kumo.log_debug { a = 'table' }
  print 'to standard output'
end)

kumo.on('shutdown_logging', function()
  kumo.log_info 'goodbye'
end)
