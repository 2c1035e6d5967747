-- Headers of a message: read, added, removed, copied to metadata.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  msg:append_header('X-Tail', 'the end')
  msg:prepend_header('X-Head', 'grüße', true)
  assert(msg:get_first_named_header_value 'x-tail' == 'the end')
  assert(msg:get_all_named_header_values('X-Head')[1] == 'grüße')
  for _, header in ipairs(msg:get_all_headers()) do
    kumo.log_debug(header[1], header[2])
  end
  local to = msg:to_header()
  kumo.log_debug(to and to.email, tostring(msg:get_address_header 'From'))
  msg:import_headers {
    { name = 'Subject', match = 'first', target = 'subject' },
    { name = 'X-*', match = 'all', transform = 'kebab_case', remove = true },
  }
  msg:import_x_headers()
  msg:remove_all_named_headers 'Precedence'
  msg:remove_x_headers()
  assert(msg:get_first_named_header_value 'X-Tail' == nil)
end)
