-- Says no early: at the connection, to a HELO, to a sender, to a recipient.
local kumo = require 'kumo'

local blocked = kumo.cidr.make_map { ['203.0.113.0/24'] = true, ['198.51.100.7'] = true }
local no_such_user = kumo.domain_map.new { ['*.old.example'] = true, ['gone.example'] = true }

kumo.on('smtp_server_connection_accepted', function(conn_meta)
  local peer = conn_meta:get_meta 'received_from' or ''
  if blocked[peer] then
    kumo.disconnect(550, 'not from ' .. peer, 'FollowWith421')
  end
end)

kumo.on('smtp_server_ehlo', function(domain, conn_meta, extensions)
  if domain == 'localhost' then
    kumo.reject(501, '5.5.4 tell me your name')
  end
  conn_meta:set_meta('ehlo', domain)
  if extensions then
    table.insert(extensions, 'X-EXAMPLE')
    return extensions
  end
end)

kumo.on('smtp_server_mail_from', function(sender, conn_meta)
  conn_meta:set_meta('sender_domain', sender.domain)
  if sender.user == 'spam' then
    kumo.disconnect(421, '4.7.0 come back never')
  end
end)

kumo.on('smtp_server_rcpt_to', function(recipient, conn_meta)
  if no_such_user[recipient.domain] then
    kumo.reject(550, '5.1.2 nobody reads mail at ' .. tostring(recipient))
  end
  assert(recipient.email == recipient.user .. '@' .. recipient.domain)
end)
