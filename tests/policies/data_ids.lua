-- UUIDs and types of files.
local kumo = require 'kumo'

kumo.on('init', function()
  for _, id in ipairs { kumo.uuid.new_v1(), kumo.uuid.new_v4(), kumo.uuid.new_v6(), kumo.uuid.new_v7() } do
    assert(kumo.uuid.parse(id.hyphenated).simple == id.simple and #id.bytes == 16)
    assert(id.braced == '{' .. tostring(id) .. '}' and id.urn:find '^urn:uuid:')
  end
  kumo.log_debug(kumo.serde.json_encode(kumo.file_type.from_bytes '%PDF-1.7'))
  kumo.log_debug(kumo.serde.json_encode(kumo.file_type.from_extension 'pdf'))
  kumo.log_debug(kumo.serde.json_encode(kumo.file_type.from_media_type 'application/pdf'))
end)
