-- KEYS[1]: the marker of the layout. ARGV: the version of this program. The reply is
-- the version that the marker has, or '' without a marker. The script writes the marker
-- again if it is right, because a server that answers may still refuse writes.
local found = redis.call('GET', KEYS[1]) or ''
if found == ARGV[1] then redis.call('SET', KEYS[1], found) end
return found
