-- KEYS[1]: the group. ARGV: want, replace, ttl.
local want, replace, ttl = ARGV[1], ARGV[2], ARGV[3]
local node = redis.call('GET', KEYS[1])
if not node or node == replace then
  node = want
  redis.call('SET', KEYS[1], node)
end
redis.call('PEXPIRE', KEYS[1], ttl)
return node
