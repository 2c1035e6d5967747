-- The policy's rules are all there are: who is not named in them may do nothing. Every decision is logged.
local kumo = require 'kumo'

kumo.on('get_acl_definition', function(resource)
  if resource == 'http_listener' then
    return kumo.aaa.make_access_control_list {
      { criteria = { Identity = { Group = 'banned' } }, privilege = 'GET', access = 'Deny' },
      { criteria = { Identity = { Authenticated = {} } }, privilege = 'GET', access = 'Allow' },
      { criteria = { Not = { Identity = { Unauthenticated = {} } } }, privilege = 'POST', access = 'Allow' },
    }
  end
  return nil
end)

kumo.on('http_server_validate_auth_basic', function(user, password)
  if password ~= 'sesame' then
    return false
  end
  return {
    identities = { { identity = user, context = 'HttpBasicAuth' } },
    groups = user == 'mallory' and { 'banned' } or {},
  }
end)

kumo.on('init', function()
  kumo.aaa.set_fall_back_to_acl_map(false)
  kumo.aaa.configure_acct_log {
    log_dir = 'acct',
    max_file_size = 100000000,
    max_segment_duration = '1 hour',
    compression_level = 3,
    back_pressure = 1000,
    min_free_space = 0,
    min_free_inodes = 0,
    log_authz_allow = true,
    log_authz_deny = true,
    log_authn_ok = true,
    log_authn_fail = true,
  }
end)
