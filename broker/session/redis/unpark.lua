-- ARGV: id, ttl (of nothing), node, epoch, whether to take it. The reply is the
-- record and, if there is something that the caller may have, its stream, state,
-- and seq.
local stop = over()
if stop then return stop end
if not owned(ARGV[3], ARGV[4]) then return reply('moved') end
local answer = reply('ok')
local p = redis.call('HMGET', parked, 'stream', 'state', 'taker', 'epoch', 'seq')
local taker = ARGV[4] .. ' ' .. ARGV[3]
if p[2] and (not p[3] or p[3] == taker) then
  if ARGV[5] == '1' then redis.call('HSET', parked, 'taker', taker) end
  answer[3] = {p[1], p[2], p[4] == ARGV[4] and p[5] or '0'}
end
return answer
