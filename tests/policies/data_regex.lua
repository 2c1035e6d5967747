-- Regular expressions, and maps by them.
local kumo = require 'kumo'

local address = kumo.regex.compile [[(?P<user>[\w.]+)@(?P<host>[\w.]+)]]
local rules = kumo.regex_set_map.new { ['quota|full'] = 'mailbox', ['spam|virus'] = 'content' }

kumo.on('init', function()
  local found = address:captures 'mail to me@host.example now'
  assert(found.user == 'me' and found[2] == 'host.example' and found[0] == 'me@host.example')
  assert(address:is_match 'a@b' and address:find 'x a@b y' == 'a@b' and #address:find_all 'a@b c@d' == 2)
  assert(address:replace('a@b c@d', '$host') == 'b c@d' and address:replace_all('a@b c@d', 'x') == 'x x')
  assert(address:replacen('a@b c@d e@f', 2, '-') == '- - e@f')
  assert(#kumo.regex.compile('[,;]'):split 'a,b;c' == 3)
  assert(kumo.regex.escape 'a.b' == [[a\.b]])
  assert(rules['your mailbox is full'] == 'mailbox' and rules['all well'] == nil)
end)
