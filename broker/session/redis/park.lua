-- ARGV: id, ttl, node, epoch, stream, state.
local stop = over()
if stop then return stop end
if not owned(ARGV[3], ARGV[4]) or redis.call('HGET', record, 'stream') ~= ARGV[5] then return reply('moved') end
redis.call('HSET', record, 'state', 'detached', 'changed', now())
keep()
redis.call('DEL', parked)
redis.call('HSET', parked, 'stream', ARGV[5], 'state', ARGV[6])
redis.call('PEXPIRE', parked, ttl)
return reply('ok')
