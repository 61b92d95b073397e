-- Finds: usher:{tag}:user:<user>, the index of the user.
-- ARGV: id, ttl, request, epoch, next epoch, node, and the state (or ''), stream and
-- time of change of the record that the caller has seen.
local request, epoch, next_epoch, node, state = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local refused = refusal()
if refused then return refused end
if request ~= '' and redis.call('HGET', record, 'request') == request then return reply('ok') end
if redis.call('HGET', record, 'epoch') ~= epoch then return reply('moved') end
local last = redis.call('HMGET', record, 'state', 'stream', 'changed')
if state ~= '' and last[1] == 'attached' and
  (state ~= last[1] or ARGV[8] ~= (last[2] or '') or ARGV[9] ~= last[3]) then
  return reply('moved')
end
redis.call('HSET', record, 'request', request, 'epoch', next_epoch, 'node', node,
  'state', 'assigned', 'leaving', '', 'changed', now())
local made = reply('ok')
keep()
return made
