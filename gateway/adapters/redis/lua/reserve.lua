#!lua
-- Takes a request, its pictures and their price from every window of every subject, or from none.
-- Idempotent per request id: a second run gives the first run's grant and takes nothing.
--
-- KEYS  1 reservation (hash)   2 owners (zset owner -> end of lease, ms)   3 held by this owner (set of request ids)
--       4 clock (ms)   5 epoch ('ready', or until when the store is being refilled, ms; absent: it was emptied)
--       then for each subject: minute (hash), day A, day B (counters), month A, month B (hashes), running (set)
-- ARGV  1 request id   2 owner   3 lease, ms   4 pictures   5 price of one, millionths   6 record
--       7-9 start of day A, its end (= start of day B), end of day B, ms   10-12 the same of the months
--       13, 14 names of the days   15, 16 names of the months   17 1: taken again after a loss of the store
--       then for each subject: requests/minute, images/minute, images/day, images/month, concurrent, spend/month
--       (-1: none), shadow (0 or 1)
-- Gives JSON: {granted: {day, month, second, rooms, shadowed}} | {refused: room} | {empty: true} | {clock: ms}
--       | {restoring: ms}
--       room: [subject index, limit index, limit, used, ms until some of it is free]

local done = redis.call('HMGET', KEYS[1], 'reply', 'state')
if done[1] then
  redis.call('HSET', KEYS[1], 'repeated', 1) -- WAIT speaks for writes of its own connection: this one has to write too
  return done[1]
end
if done[2] then return '{"released":true}' end

local time = redis.call('TIME')
local now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(redis.call('GET', KEYS[4]) or 0))
local function arg(i) return tonumber(ARGV[i]) end
if now < arg(7) or now >= arg(9) or now < arg(10) or now >= arg(12) then
  return string.format('{"clock":%.0f}', now)
end
redis.call('SET', KEYS[4], string.format('%.0f', now))

-- After a loss the replicas take again what they hold, with ARGV 17 set; until they had time to, nothing is granted.
local epoch = redis.call('GET', KEYS[5])
if not epoch then return '{"empty":true}' end
if epoch ~= 'ready' and ARGV[17] ~= '1' then
  if now < tonumber(epoch) then return string.format('{"restoring":%.0f}', tonumber(epoch) - now) end
  redis.call('SET', KEYS[5], 'ready')
end

local pictures, price = arg(4), arg(5)
local second = math.floor(now / 1000)
local day, month = now < arg(8) and 1 or 2, now < arg(11) and 1 or 2
local day_left, month_left = arg(7 + day) - now, arg(10 + month) - now

-- In no 60 s more than the limit: a bucket of one second counts until the 61st second after it, since an event at its
-- very end and one at the very start of the 60th second after are less than 60 s apart.
local WINDOW = 61

-- Gives what a minute window holds, and how long until `needed` more fit under the limit.
local function minute(buckets, kind, limit, needed)
  local used, list = 0, {}
  for i = 1, #buckets, 2 do
    local bucket = tonumber(string.sub(buckets[i], 2))
    if string.sub(buckets[i], 1, 1) == kind and second - bucket < WINDOW then
      local count = tonumber(buckets[i + 1])
      used = used + count
      if count > 0 then list[#list + 1] = {bucket, count} end -- what was given back is not waited for
    end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  local free, wait = limit - used, 0
  for _, entry in ipairs(list) do
    if free >= needed and wait > 0 then break end
    free = free + entry[2]
    wait = (entry[1] + WINDOW) * 1000 - now
    if free >= needed then break end
  end
  return used, wait
end

local rooms, shadowed, refused = {}, {}, nil
local subjects = (#KEYS - 5) / 6
local expired = {}
for s = 1, subjects do
  local k, a = 5 + (s - 1) * 6, 17 + (s - 1) * 7
  local shadow = arg(a + 7) == 1
  local function look(index, used, needed, wait)
    local limit = arg(a + index)
    if limit < 0 then return end
    local room = {s, index, limit, used, wait}
    if used + needed > limit then
      if shadow then shadowed[#shadowed + 1] = room else refused = refused or room end
    end
    room[4] = used + needed
    rooms[#rooms + 1] = room
  end
  if arg(a + 1) >= 0 or arg(a + 2) >= 0 then
    local buckets = redis.call('HGETALL', KEYS[k + 1])
    expired[s] = {}
    for i = 1, #buckets, 2 do
      if second - tonumber(string.sub(buckets[i], 2)) >= WINDOW then expired[s][#expired[s] + 1] = buckets[i] end
    end
    local used, wait = minute(buckets, 'r', arg(a + 1), 1)
    look(1, used, 1, wait)
    used, wait = minute(buckets, 'i', arg(a + 2), pictures)
    look(2, used, pictures, wait)
  end
  look(3, tonumber(redis.call('GET', KEYS[k + 1 + day]) or 0), pictures, day_left)
  local counts = redis.call('HMGET', KEYS[k + 3 + month], 'images', 'spend')
  look(4, tonumber(counts[1] or 0), pictures, month_left)
  look(5, redis.call('SCARD', KEYS[k + 6]), 1, 1000)
  look(6, tonumber(counts[2] or 0), pictures * price, month_left)
end

local function listed(list)
  for _, room in ipairs(list) do
    room[3], room[4] = string.format('%.0f', room[3]), string.format('%.0f', room[4]) -- cjson gives 14 digits
  end
  return list
end

if refused and ARGV[17] ~= '1' then
  refused[4] = refused[4] - (({1, pictures, pictures, pictures, 1, pictures * price})[refused[2]])
  return cjson.encode({refused = listed({refused})[1]})
end

local minutes = '' -- indexes of the subjects whose minute counts this request
for s = 1, subjects do
  local k, a = 5 + (s - 1) * 6, 17 + (s - 1) * 7
  if expired[s] then
    minutes = minutes .. s
    if #expired[s] > 0 then redis.call('HDEL', KEYS[k + 1], unpack(expired[s])) end
    redis.call('HINCRBY', KEYS[k + 1], 'r' .. second, 1)
    redis.call('HINCRBY', KEYS[k + 1], 'i' .. second, pictures)
    redis.call('PEXPIRE', KEYS[k + 1], (WINDOW + 1) * 1000)
  end
  -- Windows outlive their period by two days: a refund may come after its end.
  redis.call('INCRBY', KEYS[k + 1 + day], pictures)
  redis.call('PEXPIREAT', KEYS[k + 1 + day], string.format('%.0f', arg(7 + day) + 172800000))
  redis.call('HINCRBY', KEYS[k + 3 + month], 'images', pictures)
  redis.call('HINCRBY', KEYS[k + 3 + month], 'spend', string.format('%.0f', pictures * price))
  redis.call('PEXPIREAT', KEYS[k + 3 + month], string.format('%.0f', arg(10 + month) + 172800000))
  redis.call('SADD', KEYS[k + 6], ARGV[1])
end

local reply = {granted = {day = ARGV[12 + day], month = ARGV[14 + month], second = second}}
if #rooms > 0 then reply.granted.rooms = listed(rooms) end
if #shadowed > 0 then reply.granted.shadowed = shadowed end
local encoded = cjson.encode(reply)
redis.call('HSET', KEYS[1], 'state', 'held', 'owner', ARGV[2], 'pictures', pictures, 'price', ARGV[5],
  'day', ARGV[12 + day], 'month', ARGV[14 + month], 'second', second,
  'minutes', minutes, 'record', ARGV[6], 'reply', encoded)
redis.call('ZADD', KEYS[2], 'GT', string.format('%.0f', now + arg(3)), ARGV[2])
redis.call('SADD', KEYS[3], ARGV[1])
return encoded
