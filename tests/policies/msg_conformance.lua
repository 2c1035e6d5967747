-- Repairs what can be repaired, refuses the rest.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  local problem = msg:check_fix_conformance(
    'MISSING_COLON_VALUE|NAME_ENDS_WITH_SPACE',
    'NON_CANONICAL_LINE_ENDINGS|LINE_TOO_LONG|NEEDS_TRANSFER_ENCODING|MISSING_DATE_HEADER|MISSING_MESSAGE_ID_HEADER|MISSING_MIME_VERSION',
    {
      detect_encoding = true,
      include_encodings = { 'iso-8859-1', 'windows-1252' },
      exclude_encodings = { 'utf-7' },
      message_id = '<' .. msg:id() .. '@example.com>',
    }
  )
  if problem then
    kumo.reject(552, '5.6.0 ' .. problem)
  end
end)
