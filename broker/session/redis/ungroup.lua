-- KEYS: the node of the group, and its sessions. ARGV: the session to remove from it.
-- The group is deleted with its last session.
local sessions = KEYS[2]
if redis.call('ZREM', sessions, ARGV[1]) == 1 and redis.call('EXISTS', sessions) == 0 then
  redis.call('DEL', KEYS[1])
end
return 1
