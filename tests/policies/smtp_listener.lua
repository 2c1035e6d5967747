-- A listener with the options that a submission service sets first.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.start_esmtp_listener {
    listen = '127.0.0.1:0',
    hostname = 'submit.example.com',
    banner = 'ready when you are',
    relay_hosts = { '10.20.0.0/16', 'fd00::/8' },
    max_message_size = 12 * 1024 * 1024,
    max_recipients_per_message = 50,
    max_messages_per_connection = 2000,
    max_connections = 500,
    client_timeout = '90s',
    data_buffer_size = 65536,
    data_processing_timeout = '2 minutes',
    invalid_line_endings = 'Fix',
    line_length_hard_limit = 1200,
  }
end)
