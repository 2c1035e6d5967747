-- Times of delivery: by header, by the policy, and in force at once.
local kumo = require 'kumo'

kumo.on('smtp_server_message_received', function(msg)
  if msg:get_first_named_header_value 'X-When' then
    msg:import_scheduling_header('X-When', true)
  else
    local schedule = msg:set_scheduling {
      first_attempt = '2027-02-01T08:00:00+01:00',
      expires = '2027-02-03T08:00:00+01:00',
      dow = 'Mon,Wed,Friday',
      tz = 'Europe/Vienna',
      start = '08:30:00',
      ['end'] = '17:00:00',
    }
    assert(schedule)
  end
  msg:set_due '2027-02-01T09:00:00Z'
  msg:set_scheduling(nil)
  msg:set_due(nil)
  msg:increment_num_attempts()
  msg:set_force_sync(true)
end)
