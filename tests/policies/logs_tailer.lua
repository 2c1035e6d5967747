-- Follows the delivery log, and writes one of its own.
local kumo = require 'kumo'

kumo.on('follow.the.log', function()
  local tailer <close> = kumo.jsonl.new_tailer({
    directory = '/var/log/example',
    pattern = '*',
    max_batch_size = 50,
    max_batch_latency = '2s',
    checkpoint_name = 'billing',
    poll_watcher = '5s',
    tail = true,
  }, function(record)
    return record.type == 'Delivery'
  end)
  for batch in tailer:batches() do
    for record in batch:iter_records() do
      kumo.log_info(record.id, record.recipient)
    end
    kumo.log_info(#batch:records(), batch:consumer_name())
    batch:commit()
  end
  tailer:close()
end)

kumo.on('follow.for.several', function()
  local tailer = kumo.jsonl.new_multi_tailer {
    directory = '/var/log/example',
    pattern = '2027*',
    poll_watcher = '10s',
    consumers = {
      { name = 'bounces', max_batch_size = 10, filter = function(record) return record.type == 'Bounce' end },
      { name = 'all', max_batch_latency = '1s', checkpoint_name = 'all' },
    },
  }
  for batches in tailer:batches() do
    for _, batch in ipairs(batches) do
      kumo.log_info(batch:consumer_name(), #batch:records())
      batch:commit()
    end
  end
end)

kumo.on('write.a.log', function()
  local writer <close> = kumo.jsonl.new_writer {
    log_dir = '/var/log/example-own',
    max_file_size = 1000000,
    max_segment_duration = '10m',
    compression_level = 1,
    suffix = '.jsonl',
    tz = 'UTC',
  }
  writer:write_record { type = 'Example', n = 1 }
  writer:write_line '{"type":"Example","n":2}'
  writer:close()
end)
