-- Adds to the text, and puts the content away.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  assert(msg:append_text_plain '-- \r\nsent by an example\r\n')
  msg:append_text_html '<p>sent by an example</p>'
  msg:set_data(msg:get_data() .. 'more\r\n')
end)

kumo.on('put.away', function(msg)
  msg:save()
  msg:shrink_data()
  msg:shrink()
end)
