-- Blocks of AES, and signatures for AWS.
local kumo = require 'kumo'

kumo.on('init', function()
  local key = { key = { key_data = '0123456789abcdef' } }
  for _, mode in ipairs { 'Cbc', 'Ecb' } do
    local sealed = kumo.crypto.aes_encrypt_block(mode, 'attack at dawn', key)
    assert(kumo.crypto.aes_decrypt_block(mode, sealed, key).bytes == 'attack at dawn')
  end
  local signed = kumo.crypto.aws_sign_v4 {
    access_key = { key_data = 'AKIDEXAMPLE' },
    secret_key = { key_data = 'not a secret' },
    region = 'eu-central-1',
    service = 'sqs',
    method = 'GET',
    uri = '/queue',
    query_params = { Action = 'ListQueues' },
    headers = { host = 'sqs.example.com' },
    payload = '',
    session_token = 'session',
  }
  assert(signed.authorization:find 'AWS4%-HMAC%-SHA256')
  assert(kumo.secrets.load { key_data = 'hush' } == 'hush')
  assert(kumo.secrets.load('data/tenants.json'):find 'shop')
end)
