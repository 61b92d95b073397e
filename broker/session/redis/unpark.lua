-- ARGV: id, ttl (of nothing), node, epoch, stream. The reply is the record and,
-- if there is one that the caller may have, the state that was parked.
local stop = over()
if stop then return stop end
if not owned(ARGV[3], ARGV[4]) or redis.call('HGET', record, 'stream') ~= ARGV[5] then return reply('moved') end
local answer = reply('ok')
local p = redis.call('HMGET', parked, 'stream', 'state', 'taker')
local taker = ARGV[4] .. ' ' .. ARGV[3]
if p[1] == ARGV[5] and (not p[3] or p[3] == taker) then
  redis.call('HSET', parked, 'taker', taker)
  answer[3] = p[2]
end
return answer
