-- Who may inject over HTTP, and who an injected message is from.
local kumo = require 'kumo'

local users = { reporter = 'secret' }

kumo.on('http_server_validate_auth_basic', function(user, password)
  return users[user] ~= nil and users[user] == password
end)

kumo.on('http_server_validate_auth_bearer', function(token)
  if token == 'robot-token' then
    return { identities = { { identity = 'robot', context = 'BearerToken' } }, groups = { 'robots' } }
  end
  return false
end)

kumo.on('http_message_generated', function(msg, auth_info)
  msg:append_header('X-Injected-By', kumo.serde.json_encode(auth_info))
  msg:set_meta('tenant', 'http')
end)

kumo.on('xfer_message_received', function(msg, auth_info)
  msg:set_meta('tenant', 'xfer')
end)

kumo.on('get_acl_definition', function(resource)
  kumo.log_debug('asked for', resource)
end)
