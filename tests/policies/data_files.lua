-- Files and directories.
local kumo = require 'kumo'

kumo.on('init', function()
  assert(#kumo.fs.glob 'data/*.json' == 1 and #kumo.glob('*.json', 'data') == 1)
  assert(#kumo.fs.uncached_glob('data/*.toml', '.') == 2 and #kumo.uncached_glob 'data/*.toml' == 2)
  assert(#kumo.fs.read_dir 'data' > 3 and #kumo.read_dir 'data' > 3)
  local about = kumo.fs.metadata_for_path 'data/tenants.json'
  assert(about.is_file and not about.is_dir and about.len == about.size and about.mtime.unix_timestamp <= os.time() + 1)
  assert(not kumo.fs.symlink_metadata_for_path('data').is_symlink)
  kumo.log_debug(about.mode, about.uid, about.gid, about.ino, about.dev, about.nlink, about.rdev, tostring(about.atime), tostring(about.ctime))
  kumo.log_debug(about.blksize, about.blocks, about.readonly)
  local file = kumo.fs.open('data/tenants.json', 'r')
  local first = file:read(1)
  file:seek('set', 0)
  assert(first == '{' and file:read():find 'shop')
  file:close()
end)

kumo.on('write.report', function(text)
  local file = kumo.fs.open('/var/log/example/report.txt', 'w')
  file:write(text)
  file:flush()
  file:close()
end)
