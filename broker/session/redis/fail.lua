-- ARGV: milliseconds until the failure is forgiven.
local left = math.max(redis.call('PTTL', KEYS[1]), 0)
redis.call('SET', KEYS[1], '', 'PX', left + tonumber(ARGV[1]))
return 1
