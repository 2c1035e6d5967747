-- Log records to an exchange of RabbitMQ. Each is persistent, must be routed to some queue, and is confirmed.
local kumo = require 'kumo'
local log_hooks = require 'policy-extras.log_hooks'

log_hooks:new {
  name = 'amqp',
  log_parameters = { headers = { 'Subject' } },
  queue_config = { retry_interval = os.getenv 'RETRY_INTERVAL' or '1m' },
  constructor = function()
    local connection = {}

    function connection:send(msg)
      local record = msg:get_meta 'log_record'
      kumo.amqp.basic_publish {
        connection = {
          host = '127.0.0.1',
          port = tonumber(os.getenv 'AMQP_PORT' or 5672),
          password = os.getenv 'AMQP_PASSWORD' or 'guest',
          connection_name = 'kumo-py',
          heartbeat = 20,
          pool_size = 4,
          connect_timeout = '5s',
          publish_timeout = '10s',
        },
        exchange = os.getenv 'AMQP_EXCHANGE' or 'kumo',
        routing_key = 'log.' .. record.type:lower(),
        payload = msg:get_data(),
        content_type = 'application/json',
        delivery_mode = 2,
        message_id = tostring(msg:id()),
        timestamp = math.floor(record.timestamp),
        headers = { sender = record.sender, attempts = record.num_attempts },
        mandatory = true,
      }
      return 'confirmed'
    end

    return connection
  end,
}

-- The older way: a client with a connection of its own, for what is not in a queue.
kumo.on('tell.operators', function(text)
  local client = kumo.amqp.build_client('amqp://127.0.0.1/%2f?heartbeat=20', { confirm_select = true })
  local confirmation = client:publish {
    routing_key = 'operators',
    payload = text,
    options = { mandatory = true },
    properties = { content_type = 'text/plain', headers = { node = 'mx1' } },
  }
  local outcome = confirmation:wait()
  if outcome.status == 'Ack' and not outcome.reply_code then
    outcome = client:publish_with_timeout({ routing_key = 'archive', payload = text }, 1000)
  end
  client:close()
  return outcome.status
end)
