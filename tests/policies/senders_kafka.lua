-- Log records to Kafka in batches. Those of one recipient's domain stay in their order: they have the same key.
local kumo = require 'kumo'
local log_hooks = require 'policy-extras.log_hooks'

log_hooks:new {
  name = 'kafka',
  batch_size = 50,
  log_parameters = { headers = { 'Subject' } },
  queue_config = { retry_interval = os.getenv 'RETRY_INTERVAL' or '1m' },
  constructor = function()
    local producer = kumo.kafka.build_producer {
      ['bootstrap.servers'] = os.getenv 'KAFKA_SERVERS' or '127.0.0.1:9092',
      ['client.id'] = 'kumo-py',
      ['compression.type'] = 'zstd',
      ['linger.ms'] = 5,
      acks = 'all',
    }
    local connection = {}

    function connection:send_batch(messages)
      local records = {}
      for _, msg in ipairs(messages) do
        local record = msg:get_meta 'log_record'
        table.insert(records, {
          topic = 'mail.log',
          key = record.recipient:match '@(.*)$',
          payload = msg:get_data(),
          headers = { type = record.type, id = tostring(msg:id()) },
          timeout = os.getenv 'KAFKA_TIMEOUT' or '30s',
        })
      end
      local failed, errors = producer:send_batch(records)
      if #failed > 0 then
        -- A batch has one outcome: what was stored is stored twice.
        kumo.reject(450, string.format('%d of %d failed: %s', #failed, #records, errors[1]))
      end
      return string.format('%d stored', #records)
    end

    function connection:close()
      producer:close()
    end

    return connection
  end,
}

-- One record, and where it is.
kumo.on('note', function(text)
  local producer = kumo.kafka.build_producer { ['bootstrap.servers'] = '127.0.0.1:9092' }
  local partition, offset = producer:send { topic = 'notes', payload = text, partition = 0 }
  return string.format('%d/%d', partition, offset)
end)
