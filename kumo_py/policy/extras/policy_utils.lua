-- Small functions on tables and strings that policies and the other helpers share.

local kumo = require 'kumo'
local utils = {}

-- Comparing -------------------------------------------------------------------------------------------------
local function is_container(value)
  local kind = type(value)
  return kind == 'table' or kind == 'userdata'
end

local function compares_itself(value)
  local mt = getmetatable(value)
  return type(mt) == 'table' and mt.__eq ~= nil
end

--- Whether two values are the same all the way down. Metatables count only through an __eq of the first value's,
--- and not at all with `ignore_mt`.
function utils.equals(a, b, ignore_mt)
  if a == b then
    return true
  elseif not (is_container(a) and is_container(b)) or (not ignore_mt and compares_itself(a)) then
    return false
  end
  local seen = {}
  for key, value in pairs(a) do
    local other = b[key]
    if other == nil or not utils.equals(value, other, ignore_mt) then
      return false
    end
    seen[key] = true
  end
  for key in pairs(b) do
    if not seen[key] then
      return false
    end
  end
  return true
end

-- Assertions, for tests of policies ---------------------------------------------------------------------------
local function shown(value)
  local ok, text = pcall(kumo.json_encode, value)
  return ok and text or tostring(value)
end

-- An error at the line that called the assertion.
local function fail(message, text)
  error(message and string.format('%s. %s', message, text) or text, 3)
end

function utils.assert_eq(a, b, message)
  if not utils.equals(a, b) then
    fail(message, string.format('these should be equal:\n%s\nand\n%s', shown(a), shown(b)))
  end
end

function utils.assert_ne(a, b, message)
  if utils.equals(a, b) then
    fail(message, string.format('these should differ:\n%s\nand\n%s', shown(a), shown(b)))
  end
end

--- `pattern` is a regular expression as kumo.regex takes it.
function utils.assert_matches(text, pattern, message)
  if not kumo.regex.compile(pattern):is_match(tostring(text)) then
    fail(message, string.format('"%s"\nshould match\n"%s"', tostring(text), pattern))
  end
end

-- Tables ----------------------------------------------------------------------------------------------------
--- Set in `dest` whatever `src` has; `src` may be nil.
function utils.merge_into(src, dest)
  for key, value in pairs(src or {}) do
    dest[key] = value
  end
end

--- The same, but a table is merged into the one that is there already.
function utils.recursive_merge_into(src, dest)
  for key, value in pairs(src or {}) do
    if is_container(value) and is_container(dest[key]) then
      utils.recursive_merge_into(value, dest[key])
    else
      dest[key] = value
    end
  end
end

--- Whether some key has this value; nil is in no table.
function utils.table_contains(tbl, wanted)
  if wanted ~= nil then
    for _, value in pairs(tbl) do
      if value == wanted then
        return true
      end
    end
  end
  return false
end

function utils.table_keys(tbl)
  local keys = {}
  for key in pairs(tbl) do
    keys[#keys + 1] = key
  end
  return keys
end

function utils.table_is_empty(tbl)
  for _ in pairs(tbl) do
    return false
  end
  return true
end

-- Strings and files -----------------------------------------------------------------------------------------
function utils.starts_with(text, prefix)
  return text:sub(1, #prefix) == prefix
end

function utils.ends_with(text, suffix)
  return suffix == '' or text:sub(-#suffix) == suffix
end

--- The parts of '192.0.2.1:25' and '[::1]:25'; without brackets, and the port as text.
function utils.split_ip_port(text)
  local ip, port = text:match '^(.*):(%d+)$'
  if not ip then
    return nil
  end
  return ip:match '^%[(.*)%]$' or ip, port
end

--- What a file says; a table is taken as the content itself. All that does not end in .toml is JSON.
function utils.load_json_or_toml_file(file)
  if is_container(file) then
    return file
  end
  return utils.ends_with(file, '.toml') and kumo.toml_load(file) or kumo.json_load(file)
end

-- Showing ---------------------------------------------------------------------------------------------------
local function by_kind_and_value(a, b)
  if type(a) == type(b) and (type(a) == 'number' or type(a) == 'string') then
    return a < b
  end
  return tostring(a) < tostring(b)
end

local function dump(value, indent, open)
  local kind = type(value)
  if kind == 'number' or kind == 'boolean' then
    return tostring(value)
  elseif kind ~= 'table' then
    return string.format('%q', tostring(value))
  elseif open[value] then
    return '[recursive node]'
  end
  local mt = getmetatable(value)
  if type(mt) == 'table' and mt.__tostring then
    return tostring(value)
  end
  local keys = utils.table_keys(value)
  if #keys == 0 then
    return '{}'
  end
  table.sort(keys, by_kind_and_value)
  open[value] = true
  local margin, lines = string.rep(' ', indent), {}
  for n, key in ipairs(keys) do
    local name = type(key) == 'string' and string.format('%q', key) or tostring(key)
    lines[n] = string.format('%s[%s] = %s', margin, name, dump(value[key], indent + 2, open))
  end
  open[value] = nil
  return string.format('{\n%s\n%s}', table.concat(lines, ',\n'), string.rep(' ', indent - 2))
end

--- A value as Lua would write it, for debugging; nil stays nil.
function utils.dumps(value)
  if value ~= nil then
    return dump(value, 2, {})
  end
end

return utils
