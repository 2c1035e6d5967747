-- Text as policies take it apart.
local kumo = require 'kumo'

local s = kumo.string

kumo.on('init', function()
  assert(s.replace('a-b-c', '-', '+') == 'a+b+c' and kumo.string.replace('aa', 'a', 'b') == 'bb')
  assert(kumo.string.replacen('a-b-c', '-', '+', 1) == 'a+b-c')
  assert(table.concat(kumo.string.split('a,b,c', ','), ' ') == 'a b c')
  assert(table.concat(kumo.string.splitn('a,b,c', 2, ','), ' ') == 'a b,c')
  assert(table.concat(kumo.string.rsplit('a,b,c', ','), ' ') == 'c b a')
  assert(table.concat(kumo.string.rsplitn('a,b,c', 2, ','), ' ') == 'c a,b')
  assert(#kumo.string.split_whitespace ' one\ttwo  three ' == 3)
  assert(#kumo.string.split_ascii_whitespace ' one two ' == 2)
  assert(kumo.string.starts_with('subject: x', 'subject') and kumo.string.ends_with('a.pdf', '.pdf'))
  assert(kumo.string.trim '  x ' == 'x' and kumo.string.trim_start '  x ' == 'x ' and kumo.string.trim_end '  x ' == '  x')
  assert(kumo.string.psl_domain 'www.shop.example.co.uk' == 'example.co.uk' and kumo.string.psl_suffix 'a.co.uk' == 'co.uk')
  assert(kumo.string.wrap('some words that are wrapped', 10, 20):find '\n')
  assert(kumo.string.normalize_smtp_response('queued as 9D7F0A2B by 192.0.2.1'):find 'ipaddr')
end)
