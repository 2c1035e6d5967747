-- Classes of bounces, and accounting.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.configure_bounce_classifier {
    files = { 'data/bounces.toml' },
    cache_size = 500,
    uncategorized_cache_size = 100,
    back_pressure = 10000,
    pool_size = 1,
  }
  kumo.configure_accounting_db_path '/var/spool/example/accounting.db'
end)
