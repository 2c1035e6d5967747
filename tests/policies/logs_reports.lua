-- A delivery status notification for a record of the policy's own.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  local report = kumo.generate_rfc3464_message(
    { include_original_message = 'FullContent', enable_bounce = true, reporting_mta = { mta_type = 'dns', name = 'mta.example.com' } },
    msg,
    {
      type = 'Bounce',
      id = msg:id(),
      sender = 'me@example.com',
      recipient = 'you@example.org',
      queue = 'example.org',
      site = '',
      size = 100,
      num_attempts = 0,
      timestamp = 1800000000,
      created = 1800000000,
      bounce_classification = 'Uncategorized',
      response = {
        code = 550,
        enhanced_code = { class = 5, subject = 1, detail = 1 },
        content = 'no such user',
        command = 'RCPT TO:<you@example.org>',
      },
      peer_address = { name = 'mx.example.org', addr = '192.0.2.50' },
      delivery_protocol = 'ESMTP',
      reception_protocol = 'ESMTP',
    }
  )
  assert(report:get_data():find 'Final%-Recipient')
end)
