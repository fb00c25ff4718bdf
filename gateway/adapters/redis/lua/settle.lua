#!lua flags=allow-oom
-- With: clock, variants, land, line
-- Ends a reservation: what was not charged goes back to the windows it came from, the request stays counted, and the
-- ledger's line is appended. Idempotent per request id. A settle after the lease was collected is accepted: what is
-- charged is taken again, over a limit if need be, since the pictures exist. What a refill has counted is not.
--
-- Its place under `concurrent` goes to who has waited for it.
-- A reservation that was made with `sought` is a job: its flights end with it, and all who wait are told.
--
-- KEYS  1 reservation   2 owners   3 held by the reservation's owner   4 clock   5 usage stream   6 epoch
--       7 results   8 flights   9 index of plans (as lib/land.lua says)   10 counted (as refill.lua says)
--       11 line of the project (as lib/line.lua says)
--       then for each subject: minute, day, month, running
-- ARGV  1 request id   2 settled | released | abandoned   3 pictures charged   4 event ('' for none)
--       5 price of one, millionths   6 second of the reservation   7 owner   8 ms to remember the request id
--       9, 10 day and month whose windows the keys name   11 fence of who asks
--       12 ending (JSON, '' for none): as lib/land.lua says, and replayable; member '' leaves the plan to land.lua
--       13 channel of jobs   14 1: a job with paid or ordered pictures is not to be abandoned
-- Gives settled | late | already | held | moved | empty | fenced | paid
--       held: abandoned was asked, but the owner's lease has not ended
--       fenced: another replica has taken the job over and will settle it   paid: see ARGV 14
--       empty: the store was emptied and is not refilled yet; ask again later, or the refill would count this twice
--       moved: the reservation took from another day or month; ask again with its windows
--
-- In the record: owner, fence (of its owner, 1 if absent), task:<position> (ordered upstream), paid:<position>,
-- end:<position> ('' for a withdrawal), first (position that leads), vacated (it has left `concurrent`), n, root (the job
-- that it repeats), ended (ms), replayable, pointed (an Idempotency-Key leads here), status and error_code (the answer).

local DAY = 86400000 -- ms: how long an Idempotency-Key counts
local FORTY_DAYS = 3456000000 -- ms: windows that come back after a loss of the store end by themselves
local state = redis.call('HGET', KEYS[1], 'state')
local ending = ARGV[2]
if not state and ending == 'released' then
  -- The reserve may still be on its way: what it finds here lets it take nothing.
  redis.call('HSET', KEYS[1], 'state', ending, 'reply', '{"released":true}')
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  return 'already'
end
if not state and redis.call('EXISTS', KEYS[6]) == 0 then return 'empty' end
local where = redis.call('HMGET', KEYS[1], 'day', 'month', 'second', 'minutes', 'fence', 'pointed', 'first', 'n',
  'owner', 'followed')
local remembered = where[6] and DAY or ARGV[8]
if where[1] and (where[1] ~= ARGV[9] or where[2] ~= ARGV[10]) then return 'moved' end
if state == 'settled' or state == ending or (state and state ~= 'held' and ending ~= 'settled') then
  redis.call('PEXPIRE', KEYS[1], remembered) -- WAIT speaks for writes of its own connection: this one has to write too
  redis.call('SREM', KEYS[3], ARGV[1]) -- who ended it may have been another than its owner
  return 'already'
end
if state == 'held' and ending ~= 'abandoned' and tonumber(where[5] or 1) > tonumber(ARGV[11]) then
  redis.call('HSET', KEYS[1], 'repeated', 1) -- as above
  return 'fenced'
end

local now = clock(KEYS[4])
if ending == 'abandoned' then
  if not state or where[9] ~= ARGV[7] then return 'already' end
  if now < tonumber(redis.call('ZSCORE', KEYS[2], ARGV[7]) or 0) then return 'held' end
  for position = tonumber(where[7] or 0), tonumber(where[8] or 0) - 1 do
    local known = redis.call('HMGET', KEYS[1], 'paid:' .. position, 'task:' .. position, 'end:' .. position)
    if ARGV[14] == '1' and (known[1] or known[2] or (known[3] or '') ~= '') then return 'paid' end
  end
end

-- A reservation that was collected, or lost with the whole store, holds nothing any more.
local held = state == 'held' and tonumber(redis.call('HGET', KEYS[1], 'pictures')) or 0
local counted = not state and redis.call('SISMEMBER', KEYS[10], ARGV[1]) == 1
local change = counted and 0 or tonumber(ARGV[3]) - held
-- A release knows neither the second of its reserve, nor whose minute was counted then: limits may have changed since.
local bucket, minutes = 'i' .. (where[3] or ARGV[6]), where[4] or ''
local spend = string.format('%.0f', change * tonumber(ARGV[5]) + 0) -- no -0 of what is free: HINCRBY refuses it
for s = 0, (#KEYS - 11) / 4 - 1 do
  local k = 11 + s * 4
  if change ~= 0 then
    if string.find(minutes, s + 1, 1, true) and redis.call('HEXISTS', KEYS[k + 1], bucket) == 1 then
      redis.call('HINCRBY', KEYS[k + 1], bucket, change)
    end
    if change > 0 or redis.call('EXISTS', KEYS[k + 2]) == 1 then
      redis.call('INCRBY', KEYS[k + 2], change)
      redis.call('PEXPIRE', KEYS[k + 2], FORTY_DAYS, 'NX')
    end
    if change > 0 or redis.call('EXISTS', KEYS[k + 3]) == 1 then
      redis.call('HINCRBY', KEYS[k + 3], 'images', change)
      redis.call('HINCRBY', KEYS[k + 3], 'spend', spend)
      redis.call('PEXPIRE', KEYS[k + 3], FORTY_DAYS, 'NX')
    end
  end
  redis.call('SREM', KEYS[k + 4], ARGV[1])
end
redis.call('HSET', KEYS[1], 'state', ending, 'ended', string.format('%.0f', now))
leave_line(KEYS[11], KEYS[1])
let_in(KEYS[11], string.sub(KEYS[1], 1, -#ARGV[1] - 1), ARGV[13])
if ARGV[12] ~= '' then
  local told = cjson.decode(ARGV[12])
  for _, stop in ipairs(told.ends) do
    local field = 'end:' .. stop[1]
    if redis.call('HSETNX', KEYS[1], field, stop[2]) == 0 and string.find(stop[2], '"picture":{', 1, true) then
      -- A picture that could be downloaded only after its client had been told that it failed replaces the failure.
      local failed = string.find(redis.call('HGET', KEYS[1], field), '"failure":{', 1, true)
      if failed then redis.call('HSET', KEYS[1], field, stop[2]) end
    end
  end
  redis.call('HSET', KEYS[1], 'replayable', told.replayable and 1 or 0)
  if told.member ~= '' then
    land({results = KEYS[7], flights = KEYS[8], index = KEYS[9], now = now, id = ARGV[1]}, told)
  end
  if where[10] then redis.call('PUBLISH', ARGV[13], ARGV[1]) end -- every replica hears it
end
redis.call('PEXPIRE', KEYS[1], remembered)
redis.call('SREM', KEYS[3], ARGV[1])
if ARGV[4] ~= '' then
  local line = cjson.decode(ARGV[4])
  redis.call('HSET', KEYS[1], 'status', line.status or 0, 'error_code', line.error_code or '')
  if not counted then redis.call('XADD', KEYS[5], '*', 'event', ARGV[4]) end
end
return state == 'held' and 'settled' or 'late'
