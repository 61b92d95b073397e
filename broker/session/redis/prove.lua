-- ARGV: id, ttl (not used), the number of the proof.
local refused = refusal()
if refused then return refused end
if not proven(ARGV[3]) then return reply('replayed') end
return reply('ok')
