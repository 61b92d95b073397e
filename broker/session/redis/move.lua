-- Finds: usher:{tag}:user:<user>, the index of the user.
-- ARGV: id, ttl, request, node, epoch, next epoch, next node, stream, state, seq,
-- instance.
local request, node, epoch, next_epoch, to = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local stream, state, seq = ARGV[8], ARGV[9], ARGV[10]
local refused = refusal()
if refused then return refused end
if request ~= '' and redis.call('HGET', record, 'request') == request then return reply('ok') end
if not owned(node, epoch) then return reply('moved') end
redis.call('HSET', record, 'request', request, 'epoch', next_epoch, 'node', to,
  'state', 'assigned', 'stream', stream, 'leaving', '', 'changed', now())
local made = reply('ok')
store_state(epoch, ARGV[11], stream, state, seq)
keep()
return made
