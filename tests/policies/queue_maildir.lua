-- Local mail to maildirs, one for each recipient.
local kumo = require 'kumo'

kumo.on('get_queue_config', function(domain)
  if domain == 'local.example' then
    return kumo.make_queue_config {
      protocol = {
        maildir_path = '/var/maildir/{{ domain_part }}/{{ local_part }}',
        dir_mode = tonumber('750', 8),
        file_mode = tonumber('640', 8),
      },
    }
  end
end)
