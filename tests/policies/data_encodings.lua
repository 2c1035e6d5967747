-- Bytes as text, and back.
local kumo = require 'kumo'

local e = kumo.encode

kumo.on('init', function()
  for _, pair in ipairs {
    { kumo.encode.base32_encode, kumo.encode.base32_decode },
    { kumo.encode.base32_nopad_encode, kumo.encode.base32_nopad_decode },
    { kumo.encode.base32hex_encode, kumo.encode.base32hex_decode },
    { kumo.encode.base32hex_nopad_encode, kumo.encode.base32hex_nopad_decode },
    { kumo.encode.base64_encode, kumo.encode.base64_decode },
    { kumo.encode.base64_nopad_encode, kumo.encode.base64_nopad_decode },
    { kumo.encode.base64url_encode, kumo.encode.base64url_decode },
    { kumo.encode.base64url_nopad_encode, kumo.encode.base64url_nopad_decode },
    { kumo.encode.hex_encode, kumo.encode.hex_decode },
  } do
    assert(tostring(pair[2](pair[1] 'a \xff')) == 'a \xff')
  end
  assert(e.hex_encode 'A' == '41')
  assert(kumo.encode.charset_decode('iso-8859-1', 'gr\xfcn') == 'grün')
  assert(kumo.encode.charset_encode('iso-8859-1', 'grün') == 'gr\xfcn')
end)
