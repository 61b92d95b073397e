-- KEYS[1]: the line. ARGV: place, session, ttl, the time constant of the rate in
-- seconds, and who seats it.
local place, sid, ttl, constant = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
redis.call('ZREM', KEYS[1], place)
redis.call('ZREM', kept, place)
if sid == '' then return 1 end
redis.call('HSET', KEYS[1] .. ':rate', 'rate', tostring(rate(constant) + 1 / constant), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1] .. ':rate', 86400000)
for _, seats in ipairs({lately, lately .. ':' .. ARGV[5]}) do
  redis.call('ZADD', seats, now, place)
  redis.call('PEXPIRE', seats, 86400000)
end
redis.call('SET', seated .. place, sid, 'PX', ttl)
return 1
