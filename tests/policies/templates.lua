-- Templates in three dialects.
local kumo = require 'kumo'

kumo.on('init', function()
  local context = { name = 'Anna', items = { 'a', 'b' } }
  assert(kumo.string.eval_template('hello', 'Hello {{ name | upper }}', context) == 'Hello ANNA')
  assert(kumo.string.eval_template('list', '{% for i in items %}{{ i }};{% endfor %}', context, 'Jinja') == 'a;b;')
  assert(kumo.string.eval_template('bars', 'Hi {{name}}', context, 'Handlebars') == 'Hi Anna')
  assert(kumo.string.eval_template('raw', 'Hi {{name}}', context, 'Static') == 'Hi {{name}}')
end)
