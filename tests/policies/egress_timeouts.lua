-- How long each step of a delivery may take.
local kumo = require 'kumo'

kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {
    connect_timeout = '20s',
    banner_timeout = '30s',
    ehlo_timeout = '30s',
    auth_timeout = '15s',
    mail_from_timeout = '1m',
    rcpt_to_timeout = '1m',
    data_timeout = '1m',
    data_dot_timeout = '4m',
    rset_timeout = '3s',
    idle_timeout = '20s',
    system_shutdown_timeout = '1m',
    dispatcher_progress_watchdog_timeout = '10m',
  }
end)
