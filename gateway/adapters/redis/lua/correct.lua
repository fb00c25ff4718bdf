#!lua
-- Adds to counters what they lack, all or none: what was reserved or settled since they were read stays counted.
-- Idempotent per token: it is used up.
--
-- KEYS  1 epoch   2 audit (as audit.lua says)   then for each subject: day (counter), month (hash)
-- ARGV  1 token   2, 3 end of the day and of the month, ms
--       then for each subject: images of the day, of the month, spend of the month (millionths) to be added
-- Gives 1; 0 when others have looked or corrected since, or the store was emptied: look again

if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('DEL', KEYS[2])
local TWO_DAYS = 172800000 -- ms: as long as reserve.lua keeps a window after its period

-- A value that is no number is made anew.
local function add(key, field, amount)
  local answer = field and redis.pcall('HINCRBY', key, field, amount) or redis.pcall('INCRBY', key, amount)
  if type(answer) ~= 'table' then return end
  if field and redis.call('TYPE', key).ok == 'hash' then
    redis.call('HSET', key, field, amount)
  else
    redis.call('DEL', key)
    add(key, field, amount)
  end
end

for k = 3, #KEYS, 2 do
  local a = 3 + (k - 3) / 2 * 3
  if ARGV[a + 1] ~= '0' then
    add(KEYS[k], nil, ARGV[a + 1])
    redis.call('PEXPIREAT', KEYS[k], string.format('%.0f', ARGV[2] + TWO_DAYS))
  end
  if ARGV[a + 2] ~= '0' then add(KEYS[k + 1], 'images', ARGV[a + 2]) end
  if ARGV[a + 3] ~= '0' then add(KEYS[k + 1], 'spend', ARGV[a + 3]) end
  if ARGV[a + 2] ~= '0' or ARGV[a + 3] ~= '0' then
    redis.call('PEXPIREAT', KEYS[k + 1], string.format('%.0f', ARGV[3] + TWO_DAYS))
  end
end
return 1
