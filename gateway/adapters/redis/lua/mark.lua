#!lua flags=allow-oom
-- Notes something in the records of jobs of one shard, where there is one. Idempotent.
--
-- KEYS  of each note: reservation
-- ARGV  of each note, six:
--       1 fence of who notes it   2 field   3 value   4 1: also after the job's end
--       5, 6 channel to tell of it ('' for none), and what to say there
-- Gives of each note: done | ended | fenced (another replica has taken the job over) | gone

local function note(record, by, field, value, ever, channel, said)
  local state, fence = unpack(redis.call('HMGET', record, 'state', 'fence'))
  if not state then return 'gone' end
  if tonumber(fence or 1) > tonumber(by) then return 'fenced' end
  if state ~= 'held' and ever ~= '1' then return 'ended' end
  redis.call('HSET', record, field, value)
  if string.sub(field, 1, 2) == 'w:' then redis.call('HSET', record, 'followed', 1) end -- as in reserve.lua
  if channel ~= '' then redis.call('PUBLISH', channel, said) end
  return 'done'
end

local answers = {}
for number, record in ipairs(KEYS) do
  answers[number] = note(record, unpack(ARGV, number * 6 - 5, number * 6))
end
return answers
