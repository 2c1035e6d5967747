-- RocksDB, tuned.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.define_spool {
    name = 'data',
    path = '/var/spool/example/data',
    kind = 'RocksDB',
    flush = true,
    rocks_params = {
      increase_parallelism = kumo.available_parallelism() * 2,
      optimize_level_style_compaction = 64 * 1024 * 1024,
      paranoid_checks = true,
      compression_type = 'Lz4',
      compaction_readahead_size = 2097152,
      level_compaction_dynamic_level_bytes = true,
      max_open_files = 512,
      write_buffer_size = 8388608,
      level0_stop_writes_trigger = 40,
      log_level = 'Warn',
      log_file_time_to_roll = '12h',
      obsolete_files_period = '1 hour',
      limit_concurrent_stores = 16,
      limit_concurrent_loads = 32,
      limit_concurrent_removes = 64,
      store_deadline = '10s',
      error_latch_duration = '20s',
      error_unlatch_duration = '2m',
      allow_error_unlatch = false,
    },
  }
  kumo.define_spool {
    name = 'meta',
    path = '/var/spool/example/meta',
    kind = 'RocksDB',
    rocks_params = { optimize_universal_style_compaction = 1048576, memtable_huge_page_size = 2097152 },
  }
end)
