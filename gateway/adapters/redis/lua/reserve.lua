#!lua
-- With: clock, variants, look, line
-- Takes a request, its pictures and their price from every window of every subject, or from none.
-- Idempotent per request id: a second run gives the first run's grant and takes nothing.
--
-- With `sought` the request attaches first: to the job that it repeats (Idempotency-Key, an SDK's retry), to remembered
-- pictures, to those in flight. Only what it has to lead is taken. When nothing is left to wait for, it is settled.
--
-- KEYS  1 reservation (hash)   2 owners (zset owner -> end of lease, ms)   3 held by this owner (set of request ids)
--       4 clock (ms)   5 epoch ('ready', or until when the store is being refilled, ms; absent: it was emptied)
--       6 results   7 flights   8 handed (of the plan, as lib/look.lua says)
--       9 Idempotency-Key ('<digest of the body> <job>')   10 jobs of this key and body (list, the newest first)
--       11 usage stream   12 counted (as refill.lua says)   13 line of the project (as lib/line.lua says)
--       then for each subject: minute (hash), day A, day B (counters), month A, month B (hashes), running (set)
-- ARGV  1 request id   2 owner   3 lease, ms   4 pictures   5 price of one, millionths
--       6 record: the event if its owner dies, without time; with `sought` also without outcome, cost,
--       cost_uncertain, cache, status and error_code
--       7-9 start of day A, its end (= start of day B), end of day B, ms   10-12 the same of the months
--       13, 14 names of the days   15, 16 names of the months   17 '', or taken again after a loss of the store: the
--       position of the first picture that is led
--       18 sought (JSON of gateway.domain.caching.Sought; '' for none)   19 what claim.lua found ('' to look here)
--       20 created, s   21 key id   22 shard   23 the most that all pictures may cost
--       24 fields of the record that were noted before the loss (JSON)   25 most jobs that may wait in the line
--       then for each subject: requests/minute, images/minute, images/day, images/month, concurrent, spend/month
--       (-1: none), shadow (0 or 1)
-- Gives JSON: {granted: {day, month, moment (ms), rooms, shadowed, hits, follows, replay, settled, waits}}
--       | {refused: room}
--       | {empty: true} | {clock: ms} | {restoring: ms} | {reused: true} | {notled: true}
--       hits, follows: as lib/look.lua says   replay: {job, created, ended: ends, '' for a withdrawal}
--       room: [subject index, limit index, limit, used, ms until some of it is free]
--
-- Where only `concurrent` stands in the way, all is taken but the place, for which the job waits in line.
--
-- What is taken again attaches to nothing, and is joined by who wants the same picture, unless that has failed.
-- Pointers come back where nobody has taken their place.
--
-- Records of other jobs, which lie in the same slot, are read under the names that idempotency keys, lists and flights
-- give: what those are is not known before. `left`, `taken` (a retry has found it) and `w:<job>` (it is waited for by
-- that job, with its shard; then also `followed`) are noted there; all other fields are in settle.lua's header.

local done = redis.call('HMGET', KEYS[1], 'reply', 'state')
if done[1] then
  redis.call('HSET', KEYS[1], 'repeated', 1) -- WAIT speaks for writes of its own connection: this one has to write too
  return done[1]
end
if done[2] then return '{"released":true}' end

local now = clock(KEYS[4])
local function arg(i) return tonumber(ARGV[i]) end
local again = ARGV[17] ~= ''
local noted = again and cjson.decode(ARGV[24]) or {}
if now < arg(7) or now >= arg(9) or now < arg(10) or now >= arg(12) then
  return string.format('{"clock":%.0f}', now)
end
redis.call('SET', KEYS[4], string.format('%.0f', now))

-- After a loss the replicas take again what they hold; until they had time to, nothing is granted.
local epoch = redis.call('GET', KEYS[5])
if not epoch then return '{"empty":true}' end
if again and redis.call('SISMEMBER', KEYS[12], ARGV[1]) == 1 then return '{"released":true}' end
if epoch ~= 'ready' and not again then
  if now < tonumber(epoch) then return string.format('{"restoring":%.0f}', tonumber(epoch) - now) end
  redis.call('SET', KEYS[5], 'ready')
end

local RETRY = 120000 -- ms after its end in which an SDK's retry finds a job
local DAY, LISTED, REPEATED, PASSING = 86400000, 3600000, 600000, 60000 -- ms that pointers and ended jobs are kept

local asked, price = arg(4), arg(5)
local sought = ARGV[18] ~= '' and cjson.decode(ARGV[18]) or nil
local prefix = string.sub(KEYS[1], 1, -#ARGV[1] - 1)

-- Gives a job that may be repeated; nil when it was refused, abandoned, or is gone.
local function job(id)
  local names = {'state', 'replayable', 'n', 'created', 'root', 'taken', 'left', 'ended'}
  local known = redis.call('HMGET', prefix .. id, unpack(names))
  local running = known[1] == 'held'
  if not running and not (known[1] == 'settled' and known[2] == '1') then return nil end
  if not known[3] or id == ARGV[1] then return nil end
  return {id = id, n = tonumber(known[3]), running = running, created = tonumber(known[4]), root = known[5], taken = known[6],
    left = known[7], ended = tonumber(known[8] or 0)}
end

local function origin(found)
  if found and found.root then return job(found.root) end
  return found
end

-- Gives the job under the request's Idempotency-Key, and whether that was of another body.
local function keyed()
  if sought.idempotency_key == '' then return nil end
  local body, id = string.match(redis.call('GET', KEYS[9]) or '', '^(%S*) (.*)$')
  local found = id and origin(job(id))
  return found, found and body ~= sought.body
end

-- Gives the job that an SDK's retry repeats, and the one of its jobs that it takes: one whose client has left is best.
local function retried()
  local best, taken
  for _, id in ipairs(sought.retry and sought.body ~= '' and redis.call('LRANGE', KEYS[10], 0, -1) or {}) do
    local found = job(id)
    if found and not found.taken and (found.running or now - found.ended <= RETRY) then
      local original = origin(found)
      if original and original.n ~= asked then original = nil end
      if original and found.left then return original, id end
      if original and not best then best, taken = original, id end
    end
  end
  return best, taken
end

local found, replay, taken, at, known_by_key = {hits = {}, follows = {}}, nil, nil, nil, false
if sought and not again then
  at = {results = KEYS[6], flights = KEYS[7], handed = KEYS[8], now = now, id = ARGV[1], key = ARGV[21], n = asked,
    sought = sought, live = function(id) return redis.call('HEXISTS', prefix .. id, 'left') == 0 end}
  local reused
  replay, reused = keyed()
  if reused then return '{"reused":true}' end
  known_by_key = replay ~= nil
  if not replay then replay, taken = retried() end
  if replay and replay.running then
    for position = 0, asked - 1 do found.follows[position + 1] = {replay.id, position, arg(22)} end
  elseif not replay then
    found = ARGV[19] ~= '' and cjson.decode(ARGV[19]) or look(at)
  end
end
local first = arg(17) or (replay and asked) or (#found.hits + #found.follows) -- position of the first that is led
local pictures = sought and asked - first or asked
if sought and pictures > 0 and not sought.lead then return '{"notled":true}' end
local requests = sought and sought.again and 0 or 1
local runs = (pictures > 0 or not sought) and 1 or 0
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
local full, bounded -- rooms of the first `concurrent` limit that is reached, and of the first that there is
local subjects = (#KEYS - 13) / 6
local expired = {}
for s = 1, subjects do
  local k, a = 13 + (s - 1) * 6, 25 + (s - 1) * 7
  local shadow = arg(a + 7) == 1
  local function measure(index, used, needed, wait)
    local limit = arg(a + index)
    if limit < 0 then return end
    local room = {s, index, limit, used, wait}
    if used + needed > limit and (needed > 0 or not sought) then
      if shadow then
        shadowed[#shadowed + 1] = room
      elseif index == 5 and limit > 0 then
        full = full or room
      else
        refused = refused or room
      end
    end
    if index == 5 and needed > 0 and not shadow then bounded = bounded or room end
    if wait == 0 and needed > 0 and room ~= refused then room[5] = (second + WINDOW) * 1000 - now end -- it is the oldest
    room[4] = used + needed
    rooms[#rooms + 1] = room
  end
  if arg(a + 1) >= 0 or arg(a + 2) >= 0 then
    local buckets = redis.call('HGETALL', KEYS[k + 1])
    expired[s] = {}
    for i = 1, #buckets, 2 do
      if second - tonumber(string.sub(buckets[i], 2)) >= WINDOW then expired[s][#expired[s] + 1] = buckets[i] end
    end
    local used, wait = minute(buckets, 'r', arg(a + 1), requests)
    measure(1, used, requests, wait)
    used, wait = minute(buckets, 'i', arg(a + 2), pictures)
    measure(2, used, pictures, wait)
  end
  measure(3, tonumber(redis.call('GET', KEYS[k + 1 + day]) or 0), pictures, day_left)
  local counts = redis.call('HMGET', KEYS[k + 3 + month], 'images', 'spend')
  measure(4, tonumber(counts[1] or 0), pictures, month_left)
  measure(5, redis.call('SCARD', KEYS[k + 6]), runs, 1000)
  measure(6, tonumber(counts[2] or 0), pictures * price, month_left)
end

local function listed(list)
  for _, room in ipairs(list) do
    room[3], room[4] = string.format('%.0f', room[3]), string.format('%.0f', room[4]) -- cjson gives 14 digits
  end
  return list
end

local line, waits = KEYS[13], false
if bounded and not refused and not again then
  waits = full ~= nil or awaited(line, KEYS[19])
  if waits and redis.call('ZCARD', line) >= math.min(arg(25), MOST_IN_LINE) then refused = full or bounded end
end

if refused and not again then
  refused[4] = refused[4] - (({requests, pictures, pictures, pictures, runs, pictures * price})[refused[2]])
  return cjson.encode({refused = listed({refused})[1]})
end

local places, minutes = {}, '' -- indexes of the subjects whose minute counts this request
for s = 1, subjects do
  local k, a = 13 + (s - 1) * 6, 25 + (s - 1) * 7
  if expired[s] then
    minutes = minutes .. s
    if #expired[s] > 0 then redis.call('HDEL', KEYS[k + 1], unpack(expired[s])) end
    redis.call('HINCRBY', KEYS[k + 1], 'r' .. second, requests)
    redis.call('HINCRBY', KEYS[k + 1], 'i' .. second, pictures)
    redis.call('PEXPIRE', KEYS[k + 1], (WINDOW + 1) * 1000)
  end
  if runs == 1 then
    -- Windows outlive their period by two days: a refund may come after its end.
    redis.call('INCRBY', KEYS[k + 1 + day], pictures)
    redis.call('PEXPIREAT', KEYS[k + 1 + day], string.format('%.0f', arg(7 + day) + 172800000))
    redis.call('HINCRBY', KEYS[k + 3 + month], 'images', pictures)
    redis.call('HINCRBY', KEYS[k + 3 + month], 'spend', string.format('%.0f', pictures * price))
    redis.call('PEXPIREAT', KEYS[k + 3 + month], string.format('%.0f', arg(10 + month) + 172800000))
    places[s] = {KEYS[k + 6], arg(a + 7) == 1 and -1 or arg(a + 5)}
    if not waits and not noted.vacated then redis.call('SADD', KEYS[k + 6], ARGV[1]) end
  end
end

local granted = {day = ARGV[12 + day], month = ARGV[14 + month], moment = now}
if waits then
  granted.waits = true
  for _, room in ipairs(rooms) do
    if room[2] == 5 then room[4] = room[4] - runs end -- it does not run yet
  end
end
if #rooms > 0 then granted.rooms = listed(rooms) end
if #shadowed > 0 then granted.shadowed = shadowed end
if #found.hits > 0 then granted.hits = found.hits end
if #found.follows > 0 then granted.follows = found.follows end
local ended = sought and pictures == 0 and #found.follows == 0
if ended then granted.settled = true end
if replay then
  granted.replay = {job = replay.id, created = replay.created}
  if not replay.running then
    local names = {}
    for position = 0, asked - 1 do names[position + 1] = 'end:' .. position end
    granted.replay.ended = redis.call('HMGET', prefix .. replay.id, unpack(names))
    for position = 1, asked do granted.replay.ended[position] = granted.replay.ended[position] or '' end
  end
end
local encoded = cjson.encode({granted = granted})

-- Gives the ledger's line, with what the adapter left out: by the time of a line it is summed what was counted in
-- which window, so that it has to be the time by which that was chosen; the rest depends on what was found.
local function timed(rest) return string.format('{"time":%.3f,', now / 1000) .. rest .. string.sub(ARGV[6], 2) end
local function event(outcome, cost, cache, status, code)
  return timed(string.format('"outcome":"%s","cost":%.0f,"cost_uncertain":%s,"cache":"%s","status":%d,"error_code":%s,',
    outcome, cost, tostring(cost > 0), cache, status, cjson.encode(code)))
end
local record = timed('')
if sought then
  record = event('abandoned', arg(23) * pictures / math.max(asked, 1), pictures > 0 and 'MISS' or 'COALESCED', 0, '')
end
redis.call('HSET', KEYS[1], 'state', ended and 'settled' or 'held', 'owner', ARGV[2], 'pictures', pictures,
  'price', ARGV[5], 'day', ARGV[12 + day], 'month', ARGV[14 + month], 'second', second,
  'minutes', minutes, 'record', record, 'reply', encoded)
if not ended then
  redis.call('ZADD', KEYS[2], 'GT', string.format('%.0f', now + arg(3)), ARGV[2])
  redis.call('SADD', KEYS[3], ARGV[1])
end
if waits then line_up(line, KEYS[1], ARGV[1], places) end
if again then redis.call('HSET', KEYS[1], 'turn', 1) end -- who waited for it runs, over the limit if need be
for name, value in pairs(noted) do redis.call('HSET', KEYS[1], name, value) end
if not sought then return encoded end

redis.call('HSET', KEYS[1], 'sought', ARGV[18], 'n', asked, 'first', first, 'created', ARGV[20])
if sought.plan ~= '' and not replay and not again and ARGV[19] == '' then take_off(at, found, arg(22)) end
for position = first, again and sought.plan ~= '' and asked - 1 or -1 do
  local known = noted['end:' .. position]
  if not known or string.find(known, '"picture":{', 1, true) then
    lead(KEYS[7], ARGV[1] .. '.' .. position, now, arg(22), ARGV[21])
  end
end
for _, follow in ipairs(found.follows) do -- of a job in another slot this is noted by who follows it
  if redis.call('EXISTS', prefix .. follow[1]) == 1 then
    redis.call('HSET', prefix .. follow[1], 'w:' .. ARGV[1], ARGV[22], 'followed', 1)
  end
end
if taken then redis.call('HSET', prefix .. taken, 'taken', 1) end
if replay then redis.call('HSET', KEYS[1], 'root', replay.id) end
if sought.body ~= '' and (replay or #found.hits < asked) then
  redis.call('LPUSH', KEYS[10], ARGV[1])
  redis.call('LTRIM', KEYS[10], 0, 15)
  redis.call('PEXPIRE', KEYS[10], LISTED)
end
local kept = replay and REPEATED or PASSING
if sought.idempotency_key ~= '' and not known_by_key and not (again and redis.call('EXISTS', KEYS[9]) == 1) then
  local pointed = replay and replay.id or ARGV[1]
  redis.call('SET', KEYS[9], sought.body .. ' ' .. pointed, 'PX', DAY)
  redis.call('HSET', prefix .. pointed, 'pointed', 1)
  if replay and not replay.running then redis.call('PEXPIRE', prefix .. pointed, DAY) end
  if not replay then kept = DAY end
end
if not ended or kept == DAY then
  for position, hit in ipairs(found.hits) do redis.call('HSET', KEYS[1], 'end:' .. (position - 1), hit[3]) end
end
if ended then
  local said = replay and redis.call('HMGET', prefix .. replay.id, 'status', 'error_code') or {}
  local line = event(replay and 'replayed' or 'hit', 0, 'HIT', said[1] or 200, said[2] or '')
  redis.call('XADD', KEYS[11], '*', 'event', line)
  redis.call('HSET', KEYS[1], 'ended', string.format('%.0f', now), 'replayable', 1)
  redis.call('PEXPIRE', KEYS[1], kept)
end
return encoded
