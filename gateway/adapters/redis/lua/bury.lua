#!lua flags=allow-oom
-- With: clock, slots
-- Frees what an owner held whose lease has ended. Its calls may still run upstream for a while.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 owner that looks   2 seats (JSON)   3 prefix of the owners' channels   4 owner that is dead
--       5 ms that its calls may still run
-- Gives the number of tickets that were freed.

local at = open_slots(KEYS, ARGV[1], ARGV[2])
if at.now < tonumber(redis.call('ZSCORE', at.owners, ARGV[4]) or 0) then return 0 end
local names = redis.call('SMEMBERS', held_by(at, ARGV[4]))
for _, id in ipairs(names) do
  local one = drop(at, id)
  if one and one.account ~= '' then
    redis.call('HSET', at.accounts, 'ghost:' .. one.account, string.format('%.0f', at.now + tonumber(ARGV[5])))
  end
end
redis.call('DEL', held_by(at, ARGV[4]))
redis.call('ZREM', at.owners, ARGV[4])
return #names
