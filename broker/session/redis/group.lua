-- KEYS: the node of the group, and its sessions by the time at which they joined.
-- ARGV: session, the node to bind to, the node to replace, ttl, the most other
-- sessions to return, and for how many milliseconds a session is young. The reply is
-- the node, whether another session is young, and the other sessions.
local sid, wanted, replace, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local sessions = KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local node = redis.call('GET', KEYS[1])
if not node then redis.call('DEL', sessions) end
if not node or node == replace then
  node = wanted
  redis.call('SET', KEYS[1], node)
end
redis.call('PEXPIRE', KEYS[1], ttl)
local mine = sid ~= '' and redis.call('ZSCORE', sessions, sid)
local since = now - tonumber(ARGV[6])
local young = redis.call('ZCOUNT', sessions, '(' .. since, '+inf')
if mine and tonumber(mine) > since then young = young - 1 end
local reply = {node, young > 0 and 1 or 0}
for _, other in ipairs(redis.call('ZRANGE', sessions, 0, ARGV[5])) do
  if other ~= sid and #reply - 2 < tonumber(ARGV[5]) then reply[#reply + 1] = other end
end
if sid ~= '' then redis.call('ZADD', sessions, 'NX', now, sid) end
redis.call('PEXPIRE', sessions, ttl)
return reply
