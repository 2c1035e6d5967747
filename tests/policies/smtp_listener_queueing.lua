-- Listeners that put off the work: one leaves the disk for later, one the queue too.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', deferred_spool = true, batch_handling = 'BatchByDomain' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', deferred_queue = true }
end)

kumo.on('smtp_server_message_deferred_inject', function(msg, conn_meta)
  if conn_meta:get_meta 'reception_protocol' == 'ESMTP' then
    msg:set_meta('tenant', 'later')
  end
end)
