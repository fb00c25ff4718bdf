#!lua flags=allow-oom
-- Takes or renews one owner's turn at something that one replica at a time should do, or gives it back.
-- Idempotent: the owner that has it gets it again.
--
-- KEYS  1 turn (string: its owner)
-- ARGV  1 owner   2 how long it lasts unless renewed, ms (0: give it back)
-- Gives 1 when the turn is the owner's after this call.

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
