-- What most policies do with a message: identify, label, sign off.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg, conn_meta)
  local from = msg:from_header()
  if not from then
    kumo.reject(552, '5.6.0 a From header is wanted')
  end
  msg:import_x_headers { 'x-tenant', 'x-campaign' }
  msg:set_meta('tenant', msg:get_meta 'x_tenant' or from.domain)
  msg:set_meta('campaign', msg:get_meta 'x_campaign')
  msg:remove_x_headers { 'x-tenant', 'x-campaign' }
  msg:set_meta('from', { user = from.user, email = from.email, name = from.name, all = #from.list })
  kumo.log_info('received', msg:id(), msg:sender(), msg:recipient(), msg:queue_name())
end)
