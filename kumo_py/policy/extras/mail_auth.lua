-- All authentication checks of a received message in one call. They decide nothing: that is the policy's.

local kumo = require 'kumo'
local data_files = require 'policy-extras.data_files'
local typing = require 'policy-extras.typing'
local utils = require 'policy-extras.policy_utils'

local mail_auth = {}

local MOST_NAMES = 10 -- of an address, that are looked up

local On = typing.default(typing.boolean, true)
local FIELDS = {
  dkim = On,
  spf = On,
  iprev = On,
  smtp_auth = On,
  dmarc = On,
  arc = On,
  add_auth_results_header = On,
  server_id = typing.option(typing.string),
  resolver = typing.option(typing.string),
}

-- SMTP AUTH, RFC 8601 §2.7.4.
local function smtp_auth(msg)
  local user = msg:get_meta 'authn_id'
  return {
    method = 'auth',
    result = user and 'pass' or 'none',
    props = { ['smtp.mailfrom'] = tostring(msg:sender()), ['smtp.auth'] = user },
  }
end

local function dkim(msg, resolver)
  local results = msg:dkim_verify(resolver)
  if #results == 0 then
    return { { method = 'dkim', result = 'none', reason = 'message was not signed' } }
  end
  return results
end

--- The results of each check, and all in a row as auth_results; they are also put into a header unless
--- config.add_auth_results_header is false. DMARC needs the results of DKIM and SPF.
function mail_auth.check(msg, config)
  local problems = data_files.problems()
  local options = problems:fields('mail_auth.check', '', config or {}, FIELDS)
  problems:raise()
  local function enabled(name)
    return options[name] ~= false
  end

  local found, all, resolver = {}, {}, options.resolver
  if enabled 'dkim' then
    found.dkim = dkim(msg, resolver)
    utils.merge_into(found.dkim, all)
  end
  local function add(name, result)
    found[name] = result
    table.insert(all, result)
  end
  if enabled 'spf' then
    add('spf', kumo.spf.check_msg(msg, resolver).result)
  end
  if enabled 'iprev' then
    add('iprev', mail_auth.iprev_msg(msg, resolver))
  end
  if enabled 'smtp_auth' then
    add('smtp_auth', smtp_auth(msg))
  end
  if enabled 'dmarc' and found.dkim and found.spf then
    add('dmarc', kumo.dmarc.check_msg(msg, found.dkim, resolver, found.spf, false).result)
  end
  if enabled 'arc' then
    add('arc', msg:arc_verify(resolver))
  end
  if enabled 'add_auth_results_header' then
    msg:add_authentication_results(options.server_id or msg:get_meta 'hostname' or 'localhost', all)
  end
  found.auth_results = all
  return found
end

--- iprev for the client that a message came from.
function mail_auth.iprev_msg(msg, resolver)
  local from = msg:get_meta 'received_from'
  local ip = from and utils.split_ip_port(from)
  if not ip then
    return { method = 'iprev', result = 'permerror', reason = 'the message has no received_from', props = {} }
  end
  return mail_auth.iprev(ip, resolver)
end

--- Whether an address has a name that leads back to it (RFC 8601 §3).
function mail_auth.iprev(ip, resolver)
  local function outcome(result, reason, ...)
    return {
      method = 'iprev',
      result = result,
      reason = string.format(reason, ...),
      props = { ['smtp.remote-ip'] = ip },
    }
  end

  local ok, names = pcall(kumo.dns.lookup_ptr, ip, resolver)
  if not ok then
    return outcome('temperror', 'ip %s failed to resolve PTR: %s', ip, data_files.complaint(names))
  elseif #names == 0 then
    return outcome('permerror', 'ip %s has no PTR', ip)
  end
  local failure
  for n = 1, math.min(#names, MOST_NAMES) do
    local name = names[n]
    local resolved, addresses = pcall(kumo.dns.lookup_addr, name, resolver)
    if not resolved then
      failure = outcome('temperror', 'failed to resolve %s: %s', name, data_files.complaint(addresses))
    elseif utils.table_contains(addresses, ip) then
      return outcome('pass', 'ip %s <-> %s', ip, name)
    elseif #addresses == 0 then
      failure = failure or outcome('fail', 'name %s has no A/AAAA', name)
    end
  end
  return failure or outcome('fail', 'no name of ip %s leads back to it', ip)
end

return mail_auth
