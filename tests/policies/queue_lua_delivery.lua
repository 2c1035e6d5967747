-- Delivery by a web hook, one message at a time.
local kumo = require 'kumo'

kumo.on('get_queue_config', function(domain)
  return kumo.make_queue_config {
    protocol = { custom_lua = { constructor = 'deliver.by.hook' } },
    retry_interval = '5m',
  }
end)

kumo.on('deliver.by.hook', function(domain, tenant, campaign)
  local client = kumo.http.build_client { user_agent = 'hook/1', timeout = '20s' }
  local connection = {}

  function connection:send(msg)
    local response = client
      :post('http://127.0.0.1:9/deliver/' .. domain)
      :header('Content-Type', 'message/rfc822')
      :body(msg:get_data())
      :send()
    local status = string.format('%d %s', response:status_code(), response:status_reason())
    if response:status_is_success() then
      return status
    end
    kumo.reject(response:status_is_client_error() and 550 or 450, status .. ': ' .. response:text())
  end

  function connection:close()
    client:close()
  end

  return connection
end)
