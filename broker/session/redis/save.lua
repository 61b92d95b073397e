-- ARGV: id, ttl, node, epoch, stream, state, seq, whether the node leaves. The reply
-- is one word: many travel together.
local node, epoch, stream, state, seq, leave = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local stop = over()
if stop then return {stop[1]} end
if not owned(node, epoch) then return {'moved'} end
local old = redis.call('HMGET', parked, 'epoch', 'seq')
if old[1] == epoch and tonumber(old[2]) >= tonumber(seq) then return {'ok'} end -- it was held up on its way
redis.call('HSET', record, 'stream', stream)
if leave == '1' then redis.call('HSET', record, 'state', 'detached', 'changed', now()) end
park(epoch, stream, state, seq)
keep()
return {'ok'}
