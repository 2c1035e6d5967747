-- What an operator can do, done by the policy.
local kumo = require 'kumo'

local admin = kumo.api.admin

kumo.on('validate_config', function()
  local id = kumo.api.admin.suspend.suspend { domain = 'slow.example', tenant = 'shop', reason = 'full', duration = '5m' }
  assert(#kumo.api.admin.suspend.list() == 1 and kumo.api.admin.suspend.delete(id))
  id = kumo.api.admin.suspend_ready_q.suspend { name = 'a->b@smtp_client', reason = 'blocked', expires = '2099-01-01T00:00:00Z' }
  assert(#kumo.api.admin.suspend_ready_q.list() == 1 and kumo.api.admin.suspend_ready_q.delete(id))
  assert(#admin.bounce.list() == 0)
end)

kumo.on('stop.a.campaign', function(name)
  local id = kumo.api.admin.bounce.bounce { campaign = name, reason = 'stopped', suppress_logging = true }
  kumo.log_info(id, #kumo.api.admin.bounce.list())
  kumo.api.admin.bounce.delete(id)
end)
