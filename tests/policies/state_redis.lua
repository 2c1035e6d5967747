-- Limits that several nodes share.
local kumo = require 'kumo'
local redis = require 'redis'

kumo.on('pre_init', function()
  kumo.configure_redis_throttles {
    node = 'redis://127.0.0.1/',
    pool_size = 4,
    username = 'kumo',
    password = 'hush',
    cluster = false,
    read_from_replicas = false,
    connect_timeout = '2s',
    recycle_timeout = '2s',
    wait_timeout = '2s',
    response_timeout = '2s',
  }
end)

kumo.on('count.something', function(key)
  local connection = redis.open { node = { 'redis://127.0.0.1/' }, cluster = false }
  return connection:query('INCR', key)
end)
