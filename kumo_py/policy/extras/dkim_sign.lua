-- DKIM signatures from TOML and JSON files:
--
--   [base]                            what holds where a block says nothing
--   selector = "s1"
--   headers = ["From", "To", "Subject"]
--   additional_signatures = ["esp"]
--   [domain."example.com"]            for messages from this domain
--   filename = "/path/to/key"         else /opt/kumomta/etc/dkim/DOMAIN/SELECTOR.key
--   [signature."esp"]                 whatever domain a message is from
--   domain = "esp.example"
--   policy = "OnlyIfMissingDomainBlock"
--
-- In the policy: local sign = dkim_sign:setup { '/opt/kumomta/etc/policy/dkim_data.toml' }, and sign(msg) when nothing
-- will change the message any more.

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local dkim_sign = {}

local KEY_DIRECTORY = '/opt/kumomta/etc/dkim'

local Text, Texts = typing.option(typing.string), typing.option(typing.list(typing.string))
local DomainPolicy = typing.option(typing.enum('DomainSigningPolicy', 'Always'))
local Canonicalization = typing.option(typing.enum('Canonicalization', 'Relaxed', 'Simple'))

-- What base, domain and signature blocks share.
local COMMON = {
  selector = Text,
  headers = Texts,
  expiration = typing.option(typing.number),
  header_canonicalization = Canonicalization,
  body_canonicalization = Canonicalization,
  over_sign = typing.option(typing.boolean),
}

local function fields(more)
  utils.merge_into(COMMON, more)
  return more
end

local FIELDS = {
  base = fields {
    vault_mount = Text,
    vault_path_prefix = Text,
    vault_key = Text,
    additional_signatures = Texts,
    policy = DomainPolicy,
  },
  domain = fields {
    policy = DomainPolicy,
    algo = typing.option(typing.enum('SigningAlgo', 'sha256', 'ed25519')),
    filename = Text,
  },
}
FIELDS.signature = fields {
  domain = typing.string,
  policy = typing.option(typing.enum('SignatureSigningPolicy', 'Always', 'OnlyIfMissingDomainBlock')),
  algo = FIELDS.domain.algo,
  filename = Text,
}

-- Reading ---------------------------------------------------------------------------------------------------
local function read_blocks(data, problems, file, section, blocks)
  if not problems:is_table(file, '[' .. section .. ']', blocks) then
    return
  end
  for name, block in data_files.sorted(blocks) do
    local where = string.format('[%s."%s"]', section, name)
    local target = data[section][name] or {}
    utils.merge_into(problems:fields(file, where, block, FIELDS[section]), target)
    data[section][name] = target
    data.places[target] = { file, where }
  end
end

local function complain(data, problems, block, text)
  local file, where = table.unpack(data.places[block])
  problems:add(file, where, text)
end

local function check(data, problems)
  for _, section in ipairs { 'domain', 'signature' } do
    for _, block in data_files.sorted(data[section]) do
      for _, name in ipairs { 'selector', 'headers' } do
        if not block[name] and not data.base[name] then
          complain(data, problems, block, string.format("'%s' is required, here or in [base]", name))
        end
      end
      if section == 'signature' and not block.domain then
        complain(data, problems, block, "'domain' is required")
      end
    end
  end
  for _, name in ipairs(data.base.additional_signatures or {}) do
    if not data.signature[name] then
      problems:add(
        data.base_file,
        '[base]',
        string.format(
          "additional_signatures: there is no [signature.\"%s\"]%s",
          name,
          data_files.hint(name, data.signature)
        )
      )
    end
  end
end

-- What the files say, and all that is wrong with them.
local function read(files)
  local problems = data_files.problems()
  local data = { base = {}, domain = {}, signature = {}, places = {}, base_file = files[1] }
  for _, file in ipairs(files) do
    for section, content in data_files.sorted(problems:read(file) or {}) do
      if not FIELDS[section] then
        local hint = data_files.hint(tostring(section), FIELDS)
        problems:add(file, '', string.format("unknown section '%s'%s", section, hint))
      elseif section ~= 'base' then
        read_blocks(data, problems, file, section, content)
      else
        utils.merge_into(problems:fields(file, '[base]', content, FIELDS.base), data.base)
        data.base_file = file
      end
    end
  end
  check(data, problems)
  return data, problems
end

local function load(files)
  local data, problems = read(files)
  problems:raise()
  local names = {}
  for name in pairs(data.domain) do
    names[name] = name
  end
  return {
    base = data.base,
    domain = data.domain,
    signature = data.signature,
    names = kumo.domain_map.new(names),
  }
end

-- Signing ---------------------------------------------------------------------------------------------------
local function key_of(base, block, domain, selector)
  if base.vault_mount then
    return {
      vault_mount = base.vault_mount,
      vault_path = block.filename
        or string.format('%s/%s/%s', (base.vault_path_prefix or 'dkim'):gsub('/$', ''), domain, selector),
      vault_key = base.vault_key,
    }
  end
  return block.filename or string.format('%s/%s/%s.key', KEY_DIRECTORY, domain, selector)
end

local function make_signer(base, block, domain)
  local params = { domain = domain }
  for name in pairs(COMMON) do
    params[name] = block[name]
    if params[name] == nil then
      params[name] = base[name]
    end
  end
  params.key = key_of(base, block, domain, params.selector)
  local make = block.algo == 'ed25519' and kumo.dkim.ed25519_signer or kumo.dkim.rsa_sha256_signer
  return make(params)
end

--- `signer_of(section, name, domain)` gives a signer.
local function sign(msg, data, signer_of)
  local from = msg:from_header()
  if not from then
    kumo.reject(552, '5.6.0 a message without a From header cannot be signed')
  end
  local domain = from.domain:lower()
  local name = data.names[domain]
  if name then
    msg:dkim_sign(signer_of('domain', name, domain))
  end
  for _, signature in ipairs(data.base.additional_signatures or {}) do
    local block = data.signature[signature]
    if not (name and block.policy == 'OnlyIfMissingDomainBlock') then
      msg:dkim_sign(signer_of('signature', signature, block.domain))
    end
  end
end

--- A function that signs a message; a table stands for a file's content. Once a policy.
function dkim_sign:setup(files)
  if dkim_sign.CONFIGURED then
    error('dkim_sign:setup may be called once: give it all files', 2)
  end
  dkim_sign.CONFIGURED = { data_files = files }
  local get_data = data_files.kept({ name = 'dkim_signing_data', ttl = '5 minutes' }, files, load)

  -- The node keeps signers by their options; this saves putting those together for each message.
  local signer_of = kumo.memoize(function(section, name, domain)
    local data = get_data()
    return make_signer(data.base, data[section][name], domain)
  end, { name = 'dkim_sign_signers', ttl = '1 minute', capacity = 1024, invalidate_with_epoch = true })

  return function(msg)
    sign(msg, get_data(), signer_of)
  end
end

-- Validating ------------------------------------------------------------------------------------------------
-- Every key is loaded.
local function try_signers(data, problems)
  for _, section in ipairs { 'domain', 'signature' } do
    for name, block in data_files.sorted(data[section]) do
      local domain = section == 'signature' and block.domain or name
      if not domain:find('*', 1, true) or block.filename then -- else the key depends on the message
        local ok, err = pcall(make_signer, data.base, block, (domain:gsub('%*', 'any')))
        if not ok then
          complain(data, problems, block, data_files.complaint(err))
        end
      end
    end
  end
end

kumo.on('validate_config', function()
  if not dkim_sign.CONFIGURED then
    return
  end
  local data, problems = read(dkim_sign.CONFIGURED.data_files)
  if #problems.texts == 0 then
    try_signers(data, problems)
  end
  for name, block in data_files.sorted(data.signature) do
    if not utils.table_contains(data.base.additional_signatures or {}, name) then
      complain(data, problems, block, 'is never used: [base] does not have it in additional_signatures')
    end
  end
  problems:report 'the dkim_sign files'
end)

return dkim_sign
