#!lua flags=no-writes
-- Gives who waits for a job: {state ('' when there is no record), 1 when its own client has left, 1 when it was
-- cancelled, then for each job that follows it: job, shard}.
--
-- KEYS  1 reservation

local known = redis.call('HGETALL', KEYS[1])
local state, left, cancelled, followers = '', 0, 0, {}
for i = 1, #known, 2 do
  if known[i] == 'state' then state = known[i + 1] end
  if known[i] == 'left' then left = 1 end
  if known[i] == 'cancelled' then cancelled = 1 end
  if string.sub(known[i], 1, 2) == 'w:' then
    followers[#followers + 1] = string.sub(known[i], 3)
    followers[#followers + 1] = tonumber(known[i + 1])
  end
end
return {state, left, cancelled, unpack(followers)}
