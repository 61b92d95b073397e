-- Finds: usher:{tag}:user:<user>, the index of the user.
-- ARGV: id, ttl, node, epoch, stream, state, seq, whether the node leaves the session,
-- and its instance. The reply is the outcome alone: many saves are sent together.
local node, epoch, stream, state, seq, leave, by = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local refused = refusal()
if refused then return {refused[1]} end
if not owned(node, epoch) then return {'moved'} end
local old = redis.call('HMGET', stored, 'epoch', 'by', 'seq')
if old[1] == epoch and old[2] == by and tonumber(old[3]) >= tonumber(seq) then return {'ok'} end -- this save was delayed on its way
redis.call('HSET', record, 'stream', stream)
if leave == '1' then redis.call('HSET', record, 'state', 'detached', 'changed', now()) end
store_state(epoch, by, stream, state, seq)
keep()
return {'ok'}
