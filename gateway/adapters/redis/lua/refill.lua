#!lua
-- With: clock
-- Gives an emptied shard its counts back, once: whoever comes second changes nothing.
--
-- KEYS  1 epoch   2 clock   then for each subject: day (counter), month (hash)
-- ARGV  1 ms until grants begin (0: at once)   2, 3 end of the day and of the month, ms
--       then for each subject: images of the day, images of the month, spend of the month (millionths)
-- Gives 1 when this call did it.

local now = clock(KEYS[2])
local epoch = ARGV[1] == '0' and 'ready' or string.format('%.0f', now + ARGV[1])
if not redis.call('SET', KEYS[1], epoch, 'NX') then return 0 end
local TWO_DAYS = 172800000 -- ms: as long as reserve.lua keeps a window after its period
for s = 0, (#KEYS - 2) / 2 - 1 do
  local day, month, a = KEYS[3 + s * 2], KEYS[4 + s * 2], 3 + s * 3
  redis.call('INCRBY', day, ARGV[a + 1])
  redis.call('PEXPIREAT', day, string.format('%.0f', ARGV[2] + TWO_DAYS))
  redis.call('HINCRBY', month, 'images', ARGV[a + 2])
  redis.call('HINCRBY', month, 'spend', ARGV[a + 3])
  redis.call('PEXPIREAT', month, string.format('%.0f', ARGV[3] + TWO_DAYS))
end
return 1
