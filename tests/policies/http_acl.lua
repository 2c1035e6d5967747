-- Who may use which URL of the HTTP API: rules from a file and from Lua, questions about them, and an audit log.
local kumo = require 'kumo'

local RULES = [=[
[[acl."http_listener/*/api/admin/suspend"]]
allow = true
privileges = ["GET", "POST"]
identity.Group = "mailops"

[[acl."http_listener/*/metrics"]]
allow = false
privileges = ["GET"]
identity.Machine = "127.0.0.3"

[[acl."http_listener/*/metrics"]]
allow = true
privileges = ["GET"]
criteria.AllOf = [
  { Not = { Identity = { Individual = "guest" } } },
  { AnyOf = [
    { Identity = { MachineSet = ["127.0.0.0/8", "::1"] } },
    { Identity = { Authenticated = {} } },
  ] },
]
]=]

local rules = kumo.memoize(function()
  return kumo.aaa.load_acl_map { key_data = RULES }
end, { name = 'acl_rules', ttl = '5 minutes', capacity = 4 })

kumo.on('get_acl_definition', function(resource)
  if resource == 'http_listener/*/api/machine-info' then
    return kumo.aaa.make_access_control_list {
      { criteria = { Identity = { Any = {} } }, privilege = 'GET', access = 'Allow' },
    }
  end
  return rules():get(resource)
end)

kumo.on('pre_init', function()
  kumo.aaa.set_acl_cache_ttl '5 minutes'
  kumo.aaa.set_check_cache_ttl '1 minute'
  kumo.aaa.set_fall_back_to_acl_map(true)
  kumo.aaa.configure_acct_log { log_dir = 'acct', log_authz_allow = false, min_free_space = 0, min_free_inodes = 0 }
end)

kumo.on('may', function(url, auth_info, privilege)
  local resource = kumo.aaa.make_http_url_resource('127.0.0.1:8000', url)
  local answer = kumo.aaa.query_resource_access(resource, auth_info, privilege)
  return { answer.allow, answer.resource or '', answer.rule and answer.rule.access or '' }
end)
