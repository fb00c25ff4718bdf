-- The slots of a model: who holds one, who waits for one, and whose turn is next.
--
-- A seat is a key of an upstream account: {name, account, limit (of the account), weight, fingerprint}.
-- A ticket is a picture that wants a slot: [owner, project, seq, weight, seat, account, fingerprint]; the last three are ''
-- while it waits. What is given is [ticket, seat, seq, fingerprint]: a replica with other settings may know another key by
-- the seat's name.
-- Among projects the turn goes by start tags (start-time fair queuing): a project's next picture starts where its
-- last one ended, but never before the one that was served last, and takes 1/weight. Within a project, seq decides.
--
-- Keys: clock, owners, turns (zset project that waits -> start tag of its next picture), past (zset project -> end of its
-- last picture), weights (hash, of projects that wait), tickets (hash), parked (hash 'key:<fingerprint>' or
-- 'account:<account>' -> JSON of a park), accounts (hash: learned:<account> '<limit> <ms>', pause:<account> '<until> <times>',
-- ghost:<account> until, ms), rota (zset seat -> end of its last picture), state (hash: turn, rota: start tags served last;
-- seq; pace, ms). Beside them, named by what they hold: held:<owner>, calls:<account> (sets of tickets), line:<project>
-- (zset ticket -> seq).

local MOST_TIES = 100
local STEP = 60000 -- ms: a limit that was learned grows by one in so much time

local function open_slots(keys, owner, seats)
  local at = {clock = keys[1], owners = keys[2], turns = keys[3], past = keys[4], weights = keys[5], tickets = keys[6],
    parked = keys[7], accounts = keys[8], rota = keys[9], state = keys[10]}
  at.prefix, at.owner, at.seats = string.sub(keys[1], 1, -6), owner, cjson.decode(seats)
  at.now = clock(at.clock)
  redis.call('SET', at.clock, string.format('%.0f', at.now))
  return at
end

local function exact(number) return string.format('%.17g', number) end

local function held_by(at, owner) return at.prefix .. 'held:' .. owner end
local function calls_of(at, account) return at.prefix .. 'calls:' .. account end
local function line_of(at, project) return at.prefix .. 'line:' .. project end

local function ticket(at, id)
  local known = redis.call('HGET', at.tickets, id)
  if not known then return nil end
  local words = cjson.decode(known)
  return {id = id, owner = words[1], project = words[2], seq = tonumber(words[3]), weight = words[4], seat = words[5],
    account = words[6], fingerprint = words[7]}
end

local function keep(at, one)
  redis.call('HSET', at.tickets, one.id,
    -- cjson gives 14 digits
    cjson.encode({one.owner, one.project, exact(one.seq), one.weight, one.seat, one.account, one.fingerprint}))
end

-- Gives the park of a seat, or nil: of two the one that is not lenient. One whose time is over ends here.
local function park_of(at, seat)
  local found = nil
  for _, name in ipairs({'key:' .. seat.fingerprint, 'account:' .. seat.account}) do
    local words = redis.call('HGET', at.parked, name)
    if words then
      local park = cjson.decode(words)
      if park['until'] ~= 0 and park['until'] <= at.now then
        redis.call('HDEL', at.parked, name)
      elseif not found or found.lenient then
        found = park
      end
    end
  end
  return found
end

local function limit_of(at, seat)
  local learned = redis.call('HGET', at.accounts, 'learned:' .. seat.account)
  if not learned then return seat.limit end
  local limit, since = string.match(learned, '^(%d+) (%d+)$')
  limit = tonumber(limit) + math.floor((at.now - tonumber(since)) / STEP)
  if limit < seat.limit then return limit end
  redis.call('HDEL', at.accounts, 'learned:' .. seat.account)
  return seat.limit
end

-- Finds out what is free, which accounts may be used at all, and when the first pause of one ends (ms, nil for none).
local function survey(at)
  at.free, at.limits, at.parks, at.open, at.pause = {}, {}, {}, 0, nil
  for _, seat in ipairs(at.seats) do
    seat.park = park_of(at, seat)
    if seat.park then
      seat.park.seat = seat.name -- another key of the account may have met it
      at.parks[#at.parks + 1] = seat.park
    end
    if not at.free[seat.account] then
      at.limits[seat.account] = limit_of(at, seat)
      at.free[seat.account] = math.max(0, at.limits[seat.account] - redis.call('SCARD', calls_of(at, seat.account)))
      local pause = redis.call('HGET', at.accounts, 'pause:' .. seat.account)
      local ends = pause and tonumber(string.match(pause, '^(%d+)'))
      if ends and ends > at.now then
        at.free[seat.account] = 0
        at.pause = math.min(at.pause or ends, ends)
      end
    end
  end
  for _, seat in ipairs(at.seats) do
    -- a lenient park holds as long as there is a better choice
    seat.shut = seat.park and not (seat.park.lenient and #at.parks == #at.seats)
    at.open = at.open + (seat.shut and 0 or 1)
  end
end

local function all_shut(at) return at.open == 0 end

-- Sums a number of each account that may be used: at.free or at.limits.
local function sum_of(at, numbers)
  local sum, seen = 0, {}
  for _, seat in ipairs(at.seats) do
    if not seat.shut and not seen[seat.account] then
      sum, seen[seat.account] = sum + numbers[seat.account], true
    end
  end
  return sum
end

-- Gives the seat whose turn it is among those with a free slot: each in proportion to its weight.
local function next_seat(at)
  local best, start, served = nil, nil, nil
  for _, seat in ipairs(at.seats) do
    if not seat.shut and at.free[seat.account] > 0 then
      if #at.seats == 1 then return seat end
      served = served or tonumber(redis.call('HGET', at.state, 'rota') or 0)
      local from = math.max(served, tonumber(redis.call('ZSCORE', at.rota, seat.name) or 0))
      if not best or from < start then best, start = seat, from end
    end
  end
  if best then
    redis.call('ZADD', at.rota, exact(start + 1 / best.weight), best.name)
    redis.call('HSET', at.state, 'rota', exact(start))
  end
  return best
end

-- Gives the start tag of a project's next picture.
local function start_of(at, project)
  local waiting = redis.call('ZSCORE', at.turns, project)
  if waiting then return tonumber(waiting) end
  local served = tonumber(redis.call('HGET', at.state, 'turn') or 0)
  return math.max(served, tonumber(redis.call('ZSCORE', at.past, project) or 0))
end

local function queue(at, one)
  local start = start_of(at, one.project)
  redis.call('ZADD', at.turns, 'NX', exact(start), one.project)
  redis.call('HSET', at.weights, one.project, one.weight)
  redis.call('ZADD', line_of(at, one.project), exact(one.seq), one.id)
end

local function unqueue(at, one)
  redis.call('ZREM', line_of(at, one.project), one.id)
  if redis.call('EXISTS', line_of(at, one.project)) == 0 then
    redis.call('ZREM', at.turns, one.project)
    redis.call('HDEL', at.weights, one.project)
  end
end

-- Hands a slot to the next picture of the project whose turn it is.
local function hand(at, project, start, seat)
  local one = ticket(at, redis.call('ZRANGE', line_of(at, project), 0, 0)[1])
  local ended = start + 1 / one.weight
  unqueue(at, one)
  redis.call('ZADD', at.turns, 'XX', exact(ended), project)
  redis.call('ZADD', at.past, exact(ended), project)
  redis.call('ZREMRANGEBYSCORE', at.past, '-inf', exact(start)) -- who would start now all the same
  redis.call('HSET', at.state, 'turn', exact(start))
  one.seat, one.account, one.fingerprint = seat.name, seat.account, seat.fingerprint
  keep(at, one)
  redis.call('SADD', calls_of(at, seat.account), one.id)
  at.free[seat.account] = at.free[seat.account] - 1
  return one
end

-- Gives the project whose turn it is, and its start tag: of those that start together, the one that waits longest.
local function next_project(at)
  local first = redis.call('ZRANGE', at.turns, 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local best, oldest = nil, nil
  for _, project in ipairs(redis.call('ZRANGEBYSCORE', at.turns, first[2], first[2], 'LIMIT', 0, MOST_TIES)) do
    local seq = tonumber(redis.call('ZRANGE', line_of(at, project), 0, 0, 'WITHSCORES')[2])
    if not best or seq < oldest then best, oldest = project, seq end
  end
  return best, tonumber(first[2])
end

local function grant(one) return {one.id, one.seat, exact(one.seq), one.fingerprint} end

-- Hands out what is free; tells other owners on their channel, and gives what this owner is given.
local function serve(at, channel)
  local mine = {}
  while true do
    local project, start = next_project(at)
    local seat = project and next_seat(at)
    if not seat then return mine end
    local one = hand(at, project, start, seat)
    if one.owner == at.owner then
      mine[#mine + 1] = grant(one)
    else
      redis.call('PUBLISH', channel .. one.owner, cjson.encode(grant(one)))
    end
  end
end

-- Takes a ticket out of everything; gives it, or nil when there is none.
local function drop(at, id)
  local one = ticket(at, id)
  if not one then return nil end
  if one.seat == '' then unqueue(at, one) else redis.call('SREM', calls_of(at, one.account), id) end
  redis.call('HDEL', at.tickets, id)
  redis.call('SREM', held_by(at, one.owner), id)
  return one
end

-- Gives an array that cjson writes as one even when it is empty.
local function listed(list) return #list > 0 and list or nil end
