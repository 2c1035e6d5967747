-- Hides the detail of temporary errors from clients.
local kumo = require 'kumo'

kumo.on('smtp_server_rewrite_response', function(status, response, command, conn_meta)
  if status >= 400 and status < 500 then
    return 451, 'please try again later'
  end
  if command and command:find '^VRFY' then
    return nil, 'guess'
  end
end)
