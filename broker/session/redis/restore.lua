-- ARGV: id, ttl (of nothing), node, epoch, instance. The reply is the record and, if there is
-- something that the caller may have, its stream, state, and seq.
local stop = over()
if stop then return stop end
if not owned(ARGV[3], ARGV[4]) then return reply('moved') end
local answer = reply('ok')
local p = redis.call('HMGET', parked, 'stream', 'state', 'taker', 'epoch', 'seq')
if p[2] and (not p[3] or p[3] == ARGV[4] .. ' ' .. ARGV[3] .. ' ' .. ARGV[5]) then
  answer[3] = {p[1], p[2], p[4] == ARGV[4] and p[5] or '0'}
end
return answer
