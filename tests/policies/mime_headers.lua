-- Every header that has a structure, read and set.
local kumo = require 'kumo'

local me = { address = { local_part = 'me', domain = 'example.com' }, name = 'Me' }

kumo.on('init', function()
  local part = kumo.mimepart.new_text_plain 'body'
  local headers = part.headers
  headers:set_from { me }
  headers:set_sender(me)
  headers:set_to { me }
  headers:set_cc { me }
  headers:set_bcc { me }
  headers:set_reply_to { me }
  headers:set_resent_from { me }
  headers:set_resent_sender(me)
  headers:set_resent_to { me }
  headers:set_resent_cc { me }
  headers:set_resent_bcc { me }
  headers:set_message_id '<one@example.com>'
  headers:set_content_id '<two@example.com>'
  headers:set_references { 'one@example.com', 'three@example.com' }
  headers:set_subject 'A subject: ü'
  headers:set_comments 'none'
  headers:set_mime_version '1.0'
  headers:set_content_type { value = 'text/plain', parameters = { charset = 'utf-8' } }
  headers:set_content_disposition { value = 'inline', parameters = {} }
  headers:set_content_transfer_encoding { value = '8bit', parameters = {} }
  headers:append('X-Own', 'a')
  headers:prepend('X-Own', 'b')

  assert(headers:from()[1].address.domain == 'example.com' and headers:to()[1].name == 'Me')
  assert(headers:sender().address.local_part == 'me' and headers:reply_to() and headers:cc() and headers:bcc())
  assert(headers:resent_from() and headers:resent_sender() and headers:resent_to())
  assert(headers:resent_cc() and headers:resent_bcc())
  assert(headers:message_id() == 'one@example.com' and headers:content_id() == 'two@example.com')
  assert(#headers:references() == 2 and headers:subject() == 'A subject: ü' and headers:comments() == 'none')
  assert(headers:mime_version() == '1.0' and headers:content_type().parameters.charset == 'utf-8')
  assert(headers:content_disposition().value == 'inline' and headers:content_transfer_encoding().value == '8bit')
  local own = headers:get_first_named 'X-Own'
  assert(own.value == 'b' and own.name == 'X-Own')
  for header in headers:iter 'From' do
    assert(header.mailbox_list and header.address_list)
  end
  assert(headers:get_first_named('Message-ID').message_id == 'one@example.com')
  assert(#headers:get_first_named('References').message_id_list == 2)
  assert(headers:get_first_named('Content-Type').mime_params.value == 'text/plain')
  headers:append('Authentication-Results', 'mx.example.com; spf=pass')
  assert(headers:get_first_named('Authentication-Results').authentication_results.results[1].method == 'spf')
  headers:remove_all_named 'X-Own'
  assert(headers:get_first_named 'X-Own' == nil and tostring(headers):find 'Subject:')
end)
