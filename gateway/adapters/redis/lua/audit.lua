#!lua
-- With: clock
-- Reads as of one instant what a shard counts, and of that what the ledger cannot have yet. Whatever is reserved later
-- has a later time: the clock is moved on by 1 ms.
--
-- KEYS  1 epoch   2 clock   3 owners   4 usage stream   5 audit (the token of the last look)
--       then for each subject: day (counter), month (hash)
-- ARGV  1 token   2 ms to remember it   3, 4 start and end of the day   5, 6 start and end of the month, ms
--       7 prefix of the sets held by owners   8 prefix of the records   9 most lines that may wait
-- Gives {now (ms), epoch ('' when emptied), lines that wait, counts, open, lines}: with no more than the first three when
--       the time is not in that day and month, the store is being refilled, or more lines wait
--       counts: of each subject images of the day, of the month, spend, as they are ('' for none, '?' for a wrong type)
--       open: {day, month, pictures, price of one, record} of what is held
--
-- Records lie in the same slot, under names that the sets of their owners give.

local now = clock(KEYS[2])
local epoch = redis.call('GET', KEYS[1]) or ''
local length = redis.call('XLEN', KEYS[4])
local head = {string.format('%.0f', now), epoch, length}
if now < tonumber(ARGV[3]) or now >= tonumber(ARGV[4]) or now < tonumber(ARGV[5]) or now >= tonumber(ARGV[6]) then
  return head
end
if epoch ~= '' and epoch ~= 'ready' and now < tonumber(epoch) then return head end
if length > tonumber(ARGV[9]) then return head end
redis.call('SET', KEYS[2], string.format('%.0f', now + 1))
redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[2])

local function read(...)
  local value = redis.pcall(...)
  if type(value) == 'table' then return '?' end
  return value or ''
end

local counts, open, lines = {}, {}, {}
for k = 6, #KEYS, 2 do
  counts[#counts + 1] = read('GET', KEYS[k])
  counts[#counts + 1] = read('HGET', KEYS[k + 1], 'images')
  counts[#counts + 1] = read('HGET', KEYS[k + 1], 'spend')
end
for _, owner in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  for _, id in ipairs(redis.call('SMEMBERS', ARGV[7] .. owner)) do
    local known = redis.call('HMGET', ARGV[8] .. id, 'state', 'day', 'month', 'pictures', 'price', 'record')
    if known[1] == 'held' then open[#open + 1] = {known[2], known[3], known[4], known[5], known[6]} end
  end
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[4], '-', '+')) do lines[#lines + 1] = entry[2][2] end
return {head[1], head[2], head[3], counts, open, lines}
