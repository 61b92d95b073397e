-- KEYS[1]: the line. ARGV: place, session, ttl, the time constant of the rate in
-- seconds, and who seats it.
local place, sid, ttl, constant = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
redis.call('ZREM', KEYS[1], place)
redis.call('ZREM', KEYS[1] .. ':until', place)
if sid == '' then return 1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rate = KEYS[1] .. ':rate'
local r = redis.call('HMGET', rate, 'rate', 'at')
local current = 0
if r[1] then current = tonumber(r[1]) * math.exp(-math.max(now - tonumber(r[2]), 0) / 1000 / constant) end
redis.call('HSET', rate, 'rate', tostring(current + 1 / constant), 'at', tostring(now))
redis.call('PEXPIRE', rate, 86400000)
local lately = KEYS[1] .. ':lately'
for _, seats in ipairs({lately, lately .. ':' .. ARGV[5]}) do
  redis.call('ZADD', seats, now, place)
  redis.call('PEXPIRE', seats, 86400000)
end
redis.call('SET', KEYS[1] .. ':seated:' .. place, sid, 'PX', ttl)
return 1
