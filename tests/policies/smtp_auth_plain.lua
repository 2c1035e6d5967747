-- Logins from a table, once as a yes and once as an identity with groups.
local kumo = require 'kumo'

local passwords = { alice = 'wonder', bob = 'builder' }

kumo.on('smtp_server_auth_plain', function(authz, authc, password, conn_meta)
  if passwords[authc] ~= password then
    return false
  end
  if authz == authc then
    return true
  end
  return {
    peer_address = '192.0.2.10',
    identities = {
      { identity = authc, context = 'SmtpAuthPlainAuthentication' },
      { identity = authz, context = 'SmtpAuthPlainAuthorization' },
    },
    groups = { 'senders' },
  }
end)

kumo.on('smtp_server_message_received', function(msg, conn_meta)
  local info = conn_meta:auth_info()
  kumo.log_debug(kumo.serde.json_encode(info))
  if not conn_meta:get_meta 'authn_id' then
    kumo.reject(530, '5.7.0 log in first')
  end
end)
