-- KEYS[1]: the queue. ARGV: entry, session, ttl, the time constant of the rate in
-- seconds, and the broker that admits the entry.
local entry, sid, ttl, constant = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
redis.call('ZREM', KEYS[1], entry)
redis.call('ZREM', expires, entry)
if sid == '' then return 1 end
redis.call('HSET', KEYS[1] .. ':rate', 'rate', tostring(rate(constant) + 1 / constant), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1] .. ':rate', 86400000)
for _, key in ipairs({recent, recent .. ':' .. ARGV[5]}) do
  redis.call('ZADD', key, now, entry)
  redis.call('PEXPIRE', key, 86400000)
end
redis.call('SET', admitted .. entry, sid, 'PX', ttl)
return 1
