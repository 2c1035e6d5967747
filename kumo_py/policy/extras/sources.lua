-- Egress sources and pools from TOML and JSON files:
--
--   [source."ip-1"]                 options of kumo.make_egress_source, without the name
--   source_address = "192.0.2.1"
--
--   [pool."warm"."ip-1"]            an entry of a pool, perhaps with a weight
--   weight = 2
--
-- In the policy: require('policy-extras.sources'):setup { '/opt/kumomta/etc/policy/sources.toml' }

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local sources = {}

local ENTRY = { weight = typing.option(typing.number) }
local SECTIONS = { source = true, pool = true }

-- Reading ---------------------------------------------------------------------------------------------------
local function read_source(data, problems, file, name, options)
  local where = string.format('[source."%s"]', name)
  if not problems:is_table(file, where, options) then
    return
  end
  if problems:options(file, where, kumo.make_egress_source, options, { name = name }) then
    local source = data.sources[name] or { name = name }
    utils.merge_into(options, source)
    data.sources[name] = source
  else
    data.sources[name] = data.sources[name] or { name = name } -- so that no pool is said to lack it
  end
end

local function read_pool(data, problems, file, name, entries)
  local where = string.format('[pool."%s"]', name)
  if not problems:is_table(file, where, entries) then
    return
  end
  local pool = data.pools[name] or { name = name, entries = {} }
  data.pools[name] = pool
  for source, options in data_files.sorted(entries) do
    local entry_where = string.format('[pool."%s"."%s"]', name, source)
    local entry = problems:fields(file, entry_where, options, ENTRY)
    entry.name = source
    if problems:options(file, entry_where, kumo.make_egress_pool, { entries = { entry } }, { name = name }) then
      table.insert(pool.entries, entry)
      table.insert(data.references, { file = file, where = entry_where, source = source })
    end
  end
end

-- What the files say, and all that is wrong with them.
local function read(files)
  local problems = data_files.problems()
  local data = { sources = {}, pools = {}, references = {} }
  for _, file in ipairs(files) do
    for section, blocks in data_files.sorted(problems:read(file) or {}) do
      if not SECTIONS[section] then
        local hint = data_files.hint(tostring(section), SECTIONS)
        problems:add(file, '', string.format("unknown section '%s'%s; there are source and pool", section, hint))
      elseif problems:is_table(file, '[' .. section .. ']', blocks) then
        local read_block = section == 'source' and read_source or read_pool
        for name, block in data_files.sorted(blocks) do
          read_block(data, problems, file, name, block)
        end
      end
    end
  end
  return data, problems
end

local function load(files)
  local data, problems = read(files)
  problems:raise()
  data.references = nil
  return data
end

-- A table's value, or an error with the nearest name.
local function named(kind, blocks, name)
  local found = blocks[name]
  if not found then
    local files = {}
    for n, file in ipairs(sources.CONFIGURED.data_files) do
      files[n] = data_files.label(file)
    end
    error(
      string.format(
        "egress %s '%s' is not defined in %s%s",
        kind,
        name,
        table.concat(files, ', '),
        data_files.hint(name, blocks)
      ),
      0
    )
  end
  return found
end

-- Setting up ------------------------------------------------------------------------------------------------
--- Answer get_egress_source and get_egress_pool from these files; a table stands for a file's content. Once a policy.
function sources:setup(files)
  if sources.CONFIGURED then
    error('sources:setup may be called once: give it all files', 2)
  end
  local get_data = data_files.kept({ name = 'sources_data', ttl = '5 minutes' }, files, load)
  sources.CONFIGURED = { data_files = files, get_data = get_data }

  kumo.on('get_egress_source', function(name)
    return kumo.make_egress_source(named('source', get_data().sources, name))
  end)

  kumo.on('get_egress_pool', function(name)
    return kumo.make_egress_pool(named('pool', get_data().pools, name))
  end)
end

kumo.on('validate_config', function()
  if not sources.CONFIGURED then
    return
  end
  local data, problems = read(sources.CONFIGURED.data_files)
  for _, reference in ipairs(data.references) do
    if not data.sources[reference.source] and reference.source ~= 'unspecified' then
      local hint = data_files.hint(reference.source, data.sources)
      problems:add(
        reference.file,
        reference.where,
        string.format("source '%s' is not defined%s", reference.source, hint)
      )
    end
  end
  problems:report 'the sources files'
end)

return sources
