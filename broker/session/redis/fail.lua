-- KEYS[1]: the failures of one key. ARGV: milliseconds after which one failure is
-- forgiven, added to those of the failures before it.
local left = math.max(redis.call('PTTL', KEYS[1]), 0)
redis.call('SET', KEYS[1], '', 'PX', left + tonumber(ARGV[1]))
return 1
