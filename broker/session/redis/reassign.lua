-- ARGV: id, ttl, request, epoch, next epoch, node.
local request, epoch, next_epoch, node = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local stop = over()
if stop then return stop end
if request ~= '' and redis.call('HGET', record, 'request') == request then return reply('ok') end
if redis.call('HGET', record, 'epoch') ~= epoch then return reply('moved') end
redis.call('HSET', record, 'request', request, 'epoch', next_epoch, 'node', node,
  'state', 'assigned', 'leaving', '', 'changed', now())
local made = reply('ok')
keep()
return made
