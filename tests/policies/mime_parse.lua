-- Goes through the parts of a message, and changes some.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  local mail = msg:parse_mime()
  local parts = mail:get_simple_structure()
  for _, attachment in ipairs(parts.attachments or {}) do
    local info = attachment.options or attachment
    kumo.log_debug(kumo.serde.json_encode(info and info.file_name))
  end
  for header in mail.headers:iter() do
    kumo.log_debug(header.name, header.raw_value, header.unstructured, tostring(header))
  end
  if parts.text_part then
    parts.text_part:replace_body('replaced\r\n', 'text/plain')
    parts.text_part.body = 'replaced again\r\n'
  end
  kumo.log_debug(mail.id, #mail.body)
  msg:set_data(tostring(mail:rebuild()))
end)
