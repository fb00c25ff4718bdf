#!lua flags=allow-oom
-- Forgets remembered pictures of one slot, a batch at a time.
--
-- KEYS  1 index (zset of plans; the results of each are at <index>:<plan>)
-- ARGV  1 what the names of the plans begin with   2 cursor   3 size of a batch
-- Gives {next cursor ('0' at the end), plans forgotten}.

local step = redis.call('ZSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local forgotten = 0
for i = 1, #step[2], 2 do
  local plan = step[2][i]
  if string.sub(plan, 1, #ARGV[1]) == ARGV[1] then
    forgotten = forgotten + redis.call('UNLINK', KEYS[1] .. ':' .. plan)
    redis.call('ZREM', KEYS[1], plan)
  end
end
return {step[1], forgotten}
