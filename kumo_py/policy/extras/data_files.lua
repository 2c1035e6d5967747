-- What the helpers with data files share: files are read and checked as a whole, so that every problem is named at
-- once, with its file and its block; and data that was good stays in force when a later edit is not. KumoMTA has no
-- module of this name.

local kumo = require 'kumo'
local utils = require 'policy-extras.policy_utils'

local data_files = {}

-- Near names ------------------------------------------------------------------------------------------------
-- How many letters have to be added, taken away, replaced or swapped with their neighbour.
local function distance(a, b)
  local before, last, row = {}, {}, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return last[#b]
end

local MOST_CANDIDATES = 2000

--- " (did you mean 'x'?)" with the key of `known` that is nearest to a misspelt one; '' if none is near.
function data_files.hint(name, known)
  local best, least, looked_at = nil, math.max(1, #name // 3) + 1, 0
  for candidate in pairs(known) do
    looked_at = looked_at + 1
    if looked_at > MOST_CANDIDATES then
      break
    end
    if type(candidate) == 'string' and math.abs(#candidate - #name) < least then
      local found = distance(name:sub(1, 64):lower(), candidate:sub(1, 64):lower())
      if found < least or found == least and best and candidate < best then
        best, least = candidate, found
      end
    end
  end
  return best and string.format(" (did you mean '%s'?)", best) or ''
end

--- Goes through a table's string keys in their order, so that messages come in the same order each time.
function data_files.sorted(tbl)
  local keys = utils.table_keys(tbl)
  table.sort(keys, function(a, b)
    return tostring(a) < tostring(b)
  end)
  local n = 0
  return function()
    n = n + 1
    return keys[n], tbl[keys[n]]
  end
end

--- What a function of kumo says is wrong, without the place in our own code and the function's name.
function data_files.complaint(err)
  return (tostring(err):gsub('^.-: (kumo%.[%w_.]+: )', '%1'):gsub('^kumo%.[%w_.]+: ', ''))
end

--- How a file is called in messages; a table is data that the policy itself gave.
function data_files.label(file)
  return type(file) == 'string' and file or '(inline table)'
end

-- Problems --------------------------------------------------------------------------------------------------
local Problems = {}
Problems.__index = Problems

function data_files.problems()
  return setmetatable({ texts = {} }, Problems)
end

--- `where` is the block, such as `[pool."a"]`; it may be ''.
function Problems:add(file, where, text)
  local at = where == '' and '' or where .. ': '
  table.insert(self.texts, string.format('%s: %s%s', data_files.label(file), at, text))
end

--- A file's content; nil if it cannot be had, which is then a problem.
function Problems:read(file)
  local ok, content = pcall(utils.load_json_or_toml_file, file)
  if not ok then
    table.insert(self.texts, data_files.complaint(content))
  elseif self:is_table(file, '', content) then
    return content
  end
end

--- Whether a value is a table.
function Problems:is_table(file, where, value)
  if type(value) == 'table' or type(value) == 'userdata' then
    return true
  end
  local shown = value == nil and 'nil' or string.format('%s %s', type(value), tostring(value))
  self:add(file, where, 'must be a table, got ' .. shown)
  return false
end

--- Checks the value of a field against its type (see typing.lua); the value as it is to be kept, or nil.
function Problems:value(file, where, name, field_type, value)
  local ok, result = field_type:validate_value(value)
  if ok then
    return result
  end
  self:add(file, where, string.format("'%s': %s", name, tostring(result)))
end

--- Checks a block's keys against fields, each with its type; what was right of it, as a new table.
function Problems:fields(file, where, block, fields)
  local checked = {}
  if self:is_table(file, where, block) then
    for name, value in data_files.sorted(block) do
      if fields[name] then
        checked[name] = self:value(file, where, name, fields[name], value)
      else
        self:add(file, where, string.format("unknown option '%s'%s", name, data_files.hint(tostring(name), fields)))
      end
    end
  end
  return checked
end

--- Whether a function of kumo takes options, alone and together with those that it `needs`; each that it does not take
--- is a problem. `fields` are further names that exist in the block, for hints.
function Problems:options(file, where, make, options, needs, fields)
  local function try(some)
    local params = {}
    utils.merge_into(needs, params)
    utils.merge_into(some, params)
    return pcall(make, params)
  end
  local ok, err = try(options)
  if ok then
    return true
  end
  local before = #self.texts
  for name, value in data_files.sorted(options) do
    local taken, wrong = try { [name] = value }
    if not taken then
      wrong = data_files.complaint(wrong)
      local near = fields and wrong:find('unknown option', 1, true) and data_files.hint(tostring(name), fields) or ''
      self:add(file, where, near == '' and wrong or string.format("unknown option '%s'%s", name, near))
    end
  end
  if #self.texts == before then -- each is right, but not with the others
    self:add(file, where, data_files.complaint(err))
  end
  return false
end

--- Raises an error that names all problems.
function Problems:raise()
  if #self.texts > 0 then
    error(table.concat(self.texts, '\n'), 0)
  end
end

--- In a validate_config handler: prints the problems, and says that the configuration is not fit to serve.
function Problems:report(what)
  if #self.texts > 0 then
    kumo.validation_failed()
    print(string.format('Issues found in %s:', what))
    for _, text in ipairs(self.texts) do
      print('ERROR: ' .. text)
    end
    io.stdout:flush() -- a node that only tries an edit goes on, and its buffer with it
  end
end

-- Keeping ---------------------------------------------------------------------------------------------------
--- A function that returns what `load` made of the files, once for all contexts and for each config epoch, and again
--- after `options.ttl`; the options are those of kumo.memoize. When loading fails, what was loaded last stays in force,
--- if there is something.
function data_files.kept(options, files, load)
  if type(files) ~= 'table' then
    error('setup takes a list of files, such as { "/opt/kumomta/etc/policy/data.toml" }, got ' .. type(files), 3)
  end
  local key = kumo.digest.sha256(kumo.json_encode(files)).hex
  options.capacity = 10
  if options.invalidate_with_epoch == nil then
    options.invalidate_with_epoch = true
  end
  local slot = kumo.memoize(function()
    return kumo.domain_map.new {} -- an object that all contexts share, and that can be written to
  end, { name = options.name .. '_last_good', ttl = '52 weeks', capacity = 1 })

  local kept = kumo.memoize(function()
    local ok, data = pcall(load, files)
    local last = slot()
    if ok then
      last[key] = data
      return data
    end
    local good = last[key]
    if good == nil then
      error(data, 0)
    end
    kumo.log_error(string.format('%s: what was loaded before stays in force, because of\n%s', options.name, data))
    return good
  end, options)
  return function()
    return kept(key)
  end
end

return data_files
