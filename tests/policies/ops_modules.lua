-- Parts of a policy in files of their own.
package.path = 'data/?.lua;' .. package.path
local kumo = require 'kumo'
local helper = require 'helper'

kumo.on('init', function()
  assert(helper.greeting 'you' == 'hello you')
end)
helper.setup()
