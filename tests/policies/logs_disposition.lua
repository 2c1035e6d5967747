-- At once when something has become of a message.
local kumo = require 'kumo'

kumo.on('init', function()
  kumo.configure_log_disposition_hook {
    name = 'answers',
    per_record = { Bounce = { enable = true }, Any = { enable = false } },
  }
end)

kumo.on('log_disposition_answers', function(msg, record)
  if record.type == 'Bounce' and msg:sender().email ~= '' then
    local report = kumo.generate_rfc3464_message({
      include_original_message = 'HeadersOnly',
      enable_expiration = true,
      enable_bounce = true,
      stable_content = true,
      reporting_mta = { mta_type = 'dns', name = 'mta.example.com' },
    }, msg, record)
    if report then
      kumo.inject_message(report)
    end
  end
end)
