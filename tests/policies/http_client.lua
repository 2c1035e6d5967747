-- Requests of every kind that a policy makes; nothing is sent while it is validated.
local kumo = require 'kumo'

kumo.on('lookup.account', function(name)
  local client = kumo.http.build_client {
    user_agent = 'example-policy/2',
    connection_verbose = false,
    pool_idle_timeout = '30s',
    timeout = 5,
    accept_invalid_certs = false,
  }
  local url = kumo.http.build_url('http://127.0.0.1:9/accounts', { name = name, full = 'yes' })
  local answer = client:get(url):timeout('2s'):bearer_auth('token'):send()
  if answer:status_is_redirection() or answer:status_is_informational() or answer:status_is_server_error() then
    kumo.reject(451, answer:text())
  end
  local kind, length = answer:headers()['content-type'], answer:content_length()
  kumo.log_info(kind, length, #answer:bytes())
  client:put('http://127.0.0.1:9/seen'):basic_auth('me', 'secret'):headers({ Accept = 'application/json' }):body('{}'):send()
  client:post('http://127.0.0.1:9/form'):form_url_encoded({ name = name }):send()
  client
    :post('http://127.0.0.1:9/upload')
    :form_multipart_data({ name = name, file = { data = 'content', file_name = 'report.txt' } })
    :send()
  client
    :put('http://127.0.0.1:9/bucket/object')
    :body('payload')
    :aws_sign_v4({
      access_key = { key_data = 'AKIDEXAMPLE' },
      secret_key = { key_data = 'not a secret' },
      region = 'eu-central-1',
      service = 's3',
    })
    :send()
  client:close()
end)

kumo.on('follow.events', function()
  local stream, response = kumo.http.connect_websocket 'ws://127.0.0.1:9/events'
  local first = stream:recv()
  for _, text in ipairs(stream:recv_batch '500ms') do
    kumo.log_info(first, text, response:status_code())
  end
end)

kumo.on('validate_config', function()
  assert(kumo.http.build_url('http://h.example/p', { q = 'a b' }) == 'http://h.example/p?q=a+b')
end)
