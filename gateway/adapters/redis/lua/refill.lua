#!lua
-- With: clock
-- Gives an emptied shard its counts back, once: whoever comes second changes nothing.
--
-- KEYS  1 epoch   2 clock   3 counted (set of the lately settled request ids that are in these counts already)
--       then for each subject: day (counter), month (hash)
-- ARGV  1 ms until grants begin (0: at once)   2, 3 end of the day and of the month, ms   4 ms to remember what is
--       counted   5 how many ids   then these ids
--       then for each subject: images of the day, images of the month, spend of the month (millionths)
-- Gives 1 when this call did it; 0 also when the day has ended meanwhile, so that the counts are to be made anew.

local now = clock(KEYS[2])
if #KEYS > 3 and now >= tonumber(ARGV[2]) then return 0 end
local epoch = ARGV[1] == '0' and 'ready' or string.format('%.0f', now + ARGV[1])
if not redis.call('SET', KEYS[1], epoch, 'NX') then return 0 end
local TWO_DAYS = 172800000 -- ms: as long as reserve.lua keeps a window after its period
local ids = tonumber(ARGV[5])
for i = 6, 5 + ids do redis.call('SADD', KEYS[3], ARGV[i]) end
redis.call('PEXPIRE', KEYS[3], ARGV[4])
for s = 0, (#KEYS - 3) / 2 - 1 do
  local day, month, a = KEYS[4 + s * 2], KEYS[5 + s * 2], 5 + ids + s * 3
  redis.call('INCRBY', day, ARGV[a + 1])
  redis.call('PEXPIREAT', day, string.format('%.0f', ARGV[2] + TWO_DAYS))
  redis.call('HINCRBY', month, 'images', ARGV[a + 2])
  redis.call('HINCRBY', month, 'spend', ARGV[a + 3])
  redis.call('PEXPIREAT', month, string.format('%.0f', ARGV[3] + TWO_DAYS))
end
return 1
