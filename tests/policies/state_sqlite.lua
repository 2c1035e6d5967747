-- A database of users, asked through a cache.
local kumo = require 'kumo'
local sqlite = require 'sqlite'

local function allowed(user, password)
  local db = sqlite.open(':memory:', 250)
  db:execute 'CREATE TABLE users (name TEXT, password TEXT)'
  db:execute('INSERT INTO users VALUES (?, ?)', 'alice', 'wonder')
  local rows = db:execute('SELECT name FROM users WHERE name = :name AND password = :password', { name = user, password = password })
  db:close()
  return rows[1] == user
end

local remembered = kumo.memoize(allowed, {
  name = 'user_logins',
  ttl = '5 minutes',
  capacity = 100,
  invalidate_with_epoch = true,
  populate_timeout = '10s',
  retry_on_populate_timeout = false,
  allow_stale_reads = true,
})

kumo.on('smtp_server_auth_plain', function(authz, authc, password)
  return remembered(authc, password)
end)

kumo.on('http_server_validate_auth_basic', function(user, password)
  return remembered(user, password)
end)

kumo.on('validate_config', function()
  assert(remembered('alice', 'wonder') and not remembered('alice', 'x'))
end)
