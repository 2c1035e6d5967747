-- New messages from parts.
local kumo = require 'kumo'

kumo.on('init', function()
  local builder = kumo.mimepart.builder()
  builder:set_stable_content(true)
  builder:text_plain 'hello'
  builder:text_html '<b>hello</b>'
  builder:text_amp_html '<html amp4email></html>'
  builder:attach('application/pdf', '%PDF-', { file_name = 'a.pdf', inline = false, content_id = 'a' })
  builder:attach_part(kumo.mimepart.new_binary('image/png', '\x89PNG', { file_name = 'logo.png', inline = true }))
  local made = builder:build()
  assert(tostring(made):find 'a%.pdf')

  local mixed = kumo.mimepart.new_multipart('multipart/mixed', {
    kumo.mimepart.new_text_plain 'plain',
    kumo.mimepart.new_html '<p>html</p>',
    kumo.mimepart.new_text('text/csv', 'a,b\r\n'),
  }, 'the-boundary')
  mixed:append_part(kumo.mimepart.new_text_plain 'last')
  assert(kumo.mimepart.parse(tostring(mixed)).headers:content_type().value == 'multipart/mixed')
end)
