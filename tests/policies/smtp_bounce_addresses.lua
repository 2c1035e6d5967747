-- VERP: the envelope sender names the message; bounces come back to it.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  local sender = msg:sender()
  if sender.email ~= '' then
    msg:set_sender(string.format('b-%s@bounce.%s', msg:id(), sender.domain))
  end
  local to = msg:recipient()
  if type(to) ~= 'table' then
    msg:set_recipient(to.email:lower())
  else
    msg:set_recipient { to[1], to[2] }
  end
end)
