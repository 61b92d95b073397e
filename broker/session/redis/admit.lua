-- ARGV: entry, session, ttl, and the time constant of the rate in seconds.
local entry, sid, ttl, constant = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
redis.call('ZREM', queue, entry)
redis.call('ZREM', expires, entry)
if sid == '' then return 1 end
redis.call('HSET', average, 'rate', tostring(rate(constant) + 1 / constant), 'at', tostring(now))
redis.call('PEXPIRE', average, 86400000)
for _, key in ipairs({recent, own}) do
  redis.call('ZADD', key, now, entry)
  redis.call('PEXPIRE', key, 86400000)
end
redis.call('SET', admitted, sid, 'PX', ttl)
return 1
