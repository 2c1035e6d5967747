-- Digests and their renderings.
local kumo = require 'kumo'

kumo.on('init', function()
  local d = kumo.digest.sha256('a', 'b')
  assert(#d.bytes == 32 and #d.hex == 64 and tostring(d) == d.hex)
  for _, text in ipairs {
    d.base32, d.base32_nopad, d.base32hex, d.base32hex_nopad, d.base64, d.base64_nopad, d.base64url, d.base64url_nopad,
  } do
    assert(#text > 40)
  end
  local sizes = {
    [kumo.digest.sha1 'x'] = 20,
    [kumo.digest.sha224 'x'] = 28,
    [kumo.digest.sha384 'x'] = 48,
    [kumo.digest.sha512 'x'] = 64,
    [kumo.digest.sha512_256 'x'] = 32,
    [kumo.digest.sha3_256 'x'] = 32,
    [kumo.digest.sha3_384 'x'] = 48,
    [kumo.digest.sha3_512 'x'] = 64,
    [kumo.digest.crc32 'x'] = 4,
    [kumo.digest.hmac_sha1({ key_data = 'k' }, 'x')] = 20,
    [kumo.digest.hmac_sha224({ key_data = 'k' }, 'x')] = 28,
    [kumo.digest.hmac_sha256({ key_data = 'k' }, 'x')] = 32,
    [kumo.digest.hmac_sha384({ key_data = 'k' }, 'x')] = 48,
    [kumo.digest.hmac_sha512({ key_data = 'k' }, 'x')] = 64,
  }
  for digest, size in pairs(sizes) do
    assert(#digest.bytes == size)
  end
end)
