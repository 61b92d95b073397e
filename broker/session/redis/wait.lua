-- KEYS[1]: the line, a sorted set of places by their numbers; until when each is
-- kept lies beside it. ARGV: place, ttl, the time constant of the rate in
-- seconds, who asks, and how many milliseconds a seat counts as a late one. The reply: how many are ahead, how many wait, the rate as a string,
-- the session that the place has got, and how many places were given up,
-- and how many others have seated lately.
local place, ttl = ARGV[1], tonumber(ARGV[2])
local gone = 0
for _, late in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', kept, late)
  redis.call('ZREM', KEYS[1], late)
  gone = gone + 1
end
local sid = place ~= '' and redis.call('GET', seated .. place) or ''
if place ~= '' and sid == '' then
  if not redis.call('ZSCORE', KEYS[1], place) then
    redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[1] .. ':number'), place)
  end
  redis.call('ZADD', kept, now + ttl, place)
  for _, key in ipairs({KEYS[1], kept, KEYS[1] .. ':number'}) do
    -- A day is longer than any place is kept: nobody waits then.
    redis.call('PEXPIRE', key, 86400000)
  end
end
local waiting = redis.call('ZCARD', KEYS[1])
local ahead = place ~= '' and redis.call('ZRANK', KEYS[1], place) or waiting
local mine = lately .. ':' .. ARGV[4]
for _, seats in ipairs({lately, mine}) do
  redis.call('ZREMRANGEBYSCORE', seats, '-inf', now - tonumber(ARGV[5]))
end
local others = redis.call('ZCARD', lately) - redis.call('ZCARD', mine)
return {ahead or 0, waiting, tostring(rate(tonumber(ARGV[3]))), sid or '', gone, others}
