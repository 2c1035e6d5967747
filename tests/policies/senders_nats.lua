-- Log records to NATS JetStream, the whole way: a hook that makes a message of each record, a queue of their own,
-- and a sender that publishes them. What is not acknowledged stays in the queue and is tried again.
local kumo = require 'kumo'

local QUEUE = 'nats.log_hook'

kumo.on('pre_init', function()
  kumo.configure_log_hook { name = 'nats', headers = { 'Subject' }, meta = { 'tenant' } }
end)

kumo.on('should_enqueue_log_record', function(msg, hook_name)
  if hook_name == 'nats' then
    msg:set_meta('queue', QUEUE)
    return true
  end
end)

kumo.on('get_queue_config', function(domain)
  if domain == QUEUE then
    return kumo.make_queue_config {
      protocol = { custom_lua = { constructor = 'make.nats' } },
      retry_interval = os.getenv 'RETRY_INTERVAL' or '1m',
      max_retry_interval = '20m',
    }
  end
end)

kumo.on('make.nats', function()
  local client = kumo.nats.connect {
    servers = { os.getenv 'NATS_ADDRESS' or '127.0.0.1:4222' },
    name = 'kumo-py',
    auth = { username = { key_data = 'kumo' }, password = { key_data = os.getenv 'NATS_PASSWORD' or 'secret' } },
    connection_timeout = '5s',
    request_timeout = '5s',
  }
  local connection = {}

  function connection:send(msg)
    local record = msg:get_meta 'log_record'
    local ack = client:publish {
      subject = 'log.' .. record.type:lower(),
      payload = msg:get_data(),
      -- What is published again, because an acknowledgement was lost, is stored once.
      headers = { ['Nats-Msg-Id'] = tostring(msg:id()), ['Kumo-Sender'] = record.sender },
    }
    return string.format('stored in %s as %d', ack.stream, ack.sequence)
  end

  function connection:close()
    client:close()
  end

  return connection
end)
