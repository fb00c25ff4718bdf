-- The line of a project: jobs that hold all they took but a place under `concurrent`, and wait for one.
--
-- line: zset '<first place> <job>' -> its number in the line. A place is the name of a set `running`: the key's, then
-- the project's. In the record of who waits: `waits` (JSON: {member, places = {{name, limit (-1: none)}}}), which goes
-- when it is let in; then it has `turn`.

local MOST_IN_LINE = 1000 -- that a project may have: so many are looked at whenever a place becomes free

-- Tells whether somebody waits who is to have a place before others that want it as their first.
local function awaited(line, place)
  if redis.call('EXISTS', line) == 0 then return false end
  for _, member in ipairs(redis.call('ZRANGE', line, 0, -1)) do
    if string.match(member, '^%S+') == place then return true end
  end
  return false
end

local function line_up(line, record, id, places)
  local member = places[1][1] .. ' ' .. id
  local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', line, string.format('%.0f', (tonumber(last) or 0) + 1), member)
  redis.call('HSET', record, 'waits', cjson.encode({member = member, places = places}))
end

local function leave_line(line, record)
  local waits = redis.call('HGET', record, 'waits')
  if not waits then return end
  redis.call('ZREM', line, cjson.decode(waits).member)
  redis.call('HDEL', record, 'waits')
end

local function full_place(places)
  for _, place in ipairs(places) do
    if place[2] >= 0 and redis.call('SCARD', place[1]) >= place[2] then return place[1] end
  end
  return nil
end

-- Lets those in who have waited longest and fit now. Who waits for the same first place does so in order; at a place
-- that all want, the project's, everybody stops.
-- prefix: of the names of records   channel: of jobs
local function let_in(line, prefix, channel)
  local full = {}
  for _, member in ipairs(redis.call('ZRANGE', line, 0, MOST_IN_LINE - 1)) do
    local first, id = string.match(member, '^(%S+) (.*)$')
    local known = full[first] and {} or redis.call('HMGET', prefix .. id, 'state', 'waits')
    if full[first] then -- others of its key wait before it
    elseif known[1] ~= 'held' or not known[2] then
      redis.call('ZREM', line, member)
    else
      local places = cjson.decode(known[2]).places
      local stop = full_place(places)
      if stop and stop ~= first then return end
      if stop then
        full[first] = true
      else
        for _, place in ipairs(places) do redis.call('SADD', place[1], id) end
        redis.call('ZREM', line, member)
        redis.call('HDEL', prefix .. id, 'waits')
        redis.call('HSET', prefix .. id, 'turn', 1)
        redis.call('PUBLISH', channel, id)
      end
    end
  end
end
