-- ARGV: id, ttl, node, epoch, stream. The reply is the record as it was.
local stop = over()
if stop then return stop end
if not owned(ARGV[3], ARGV[4]) then return reply('moved') end
local before = reply('ok')
redis.call('HSET', record, 'state', 'attached', 'stream', ARGV[5], 'changed', now())
keep()
return before
