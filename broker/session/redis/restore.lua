-- ARGV: id, ttl (not used), node, epoch, instance. The reply is the record and, if
-- there is stored state that this lease may use, its stream, state and seq.
local refused = refusal()
if refused then return refused end
if not owned(ARGV[3], ARGV[4]) then return reply('moved') end
local answer = reply('ok')
local s = redis.call('HMGET', stored, 'stream', 'state', 'taken_by', 'epoch', 'seq', 'by')
if s[2] and (not s[3] or s[3] == ARGV[4] .. ' ' .. ARGV[3] .. ' ' .. ARGV[5]) then
  answer[3] = {s[1], s[2], s[4] == ARGV[4] and s[6] == ARGV[5] and s[5] or '0'}
end
return answer
