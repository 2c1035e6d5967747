-- Points in time, spans, timers.
local kumo = require 'kumo'

kumo.on('init', function()
  local t = kumo.time.with_ymd_hms(2027, 2, 3, 4, 5, 6)
  assert(t.year == 2027 and t.month == 2 and t.day == 3 and t.hour == 4 and t.minute == 5 and t.second == 6)
  assert(kumo.time.from_unix_timestamp(t.unix_timestamp) == t and t.unix_timestamp_millis == t.unix_timestamp * 1000)
  assert(kumo.time.parse_rfc3339(t.rfc3339) == t and kumo.time.parse_rfc2822(t.rfc2822) == t)
  assert(t:format '%Y-%m-%d' == '2027-02-03' and kumo.time.now().elapsed.seconds < 60)
  local hour = kumo.time.parse_duration '1h'
  assert(hour.seconds == 3600 and hour.milliseconds == 3600000 and hour.microseconds == 3600000000 and hour.human == '1h')
  assert(hour.nanoseconds == 3600000000000 and (hour + hour) - hour == hour and (t + hour) - t == hour)
  local timer = kumo.time.start_timer 'policy.start'
  kumo.time.sleep(0.001)
  kumo.sleep(0)
  assert(timer:done() >= 0.001)
end)
