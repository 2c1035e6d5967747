-- Messages made by the policy from a template, as the injection API would make them.
local kumo = require 'kumo'

local request = {
  envelope_sender = 'news@example.com',
  recipients = {
    { email = 'anna@example.org', name = 'Anna', substitutions = { city = 'Linz' } },
    { email = 'otto@example.org', name = 'Otto', substitutions = { city = 'Graz' } },
  },
  content = {
    text_body = 'Hello {{ name }} in {{ city }}',
    html_body = '<p>Hello {{ name }}</p>',
    amp_html_body = nil,
    subject = 'News for {{ name }}',
    from = { email = 'news@example.com', name = 'News' },
    reply_to = { email = 'answers@example.com' },
    headers = { ['X-List'] = 'news' },
    attachments = {
      { data = 'aGVsbG8=', content_type = 'text/plain', file_name = 'hello.txt', base64 = true },
    },
  },
  substitutions = { city = 'nowhere' },
  deferred_spool = true,
  trace_headers = { received_header = true, header_name = 'X-News' },
}

kumo.on('build.news', function()
  for _, msg in ipairs(kumo.api.inject.build_v1(request)) do
    msg:set_meta('campaign', 'news')
    kumo.inject_message(msg, true)
  end
end)

kumo.on('inject.news', function()
  local result = kumo.api.inject.inject_v1(request)
  kumo.log_info(result.success_count, result.fail_count)
end)

kumo.on('inject.own', function()
  local msg = kumo.make_message('me@example.com', 'you@example.org', 'Subject: hi\r\n\r\nhello\r\n')
  assert(msg:get_first_named_header_value 'subject' == 'hi')
  kumo.inject_message(msg)
end)
