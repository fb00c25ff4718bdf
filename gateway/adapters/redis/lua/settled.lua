#!lua flags=no-writes,allow-oom
-- Tells which reservations of a shard are settled.
--
-- KEYS  reservations
-- Gives, for each of them, 1 or 0

local settled = {}
for i, record in ipairs(KEYS) do
  settled[i] = redis.call('HGET', record, 'state') == 'settled' and 1 or 0
end
return settled
