-- ARGV: id, ttl (of nothing), the proof's number.
local stop = over()
if stop then return stop end
if not proven(ARGV[3]) then return reply('replayed') end
return reply('ok')
