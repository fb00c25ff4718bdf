-- Finds pictures of a plan for a request: remembered ones, the oldest first, then those in flight.
--
-- at  results, flights: keys as variants.lua has them; a result's text is its end, a flight's '<shard> <key id>'
--     handed: key of a zset variant -> ms of when this API key was given it   id, key: of the asking job   n   now
--     sought: gateway.domain.caching.Sought   live(job): whether the client of that job is there
-- Whether the leader of a flight lives is not asked: the collector ends the flights of the dead, and until it has
-- looked at what they paid, making the picture anew could pay it twice.

local HANDED = 5000 -- ms: how long parallel calls of one client are told apart
local FLIGHT = 86400000 -- ms: longer than any job; flights whose end was lost do not stay for ever

-- Tells whether the asking request has a picture at another position: of its own, or of what took the place of one
-- (a job's id is '<root>~<position>' then).
local function has(at, variant)
  if string.match(string.match(variant, '^(.*)%.'), '^[^~]*') == at.root then return true end
  for _, excluded in ipairs(at.sought.exclude or {}) do
    if variant == excluded then return true end
  end
  return false
end

-- Gives {hits = {{variant, age in s, end}}, follows = {{job, position, shard}}}, n at most.
local function look(at)
  local sought, hits, follows, spare = at.sought, {}, {}, {}
  at.root = string.match(at.id, '^[^~]*')
  local function add(list, entry, spared)
    if #hits + #follows >= at.n or has(at, entry.variant) then return end
    local handed = sought.distinct and redis.call('ZSCORE', at.handed, entry.variant)
    if spared or (handed and at.now - tonumber(handed) < HANDED) then
      spare[#spare + 1] = {list, entry}
    else
      list[#list + 1] = entry
    end
  end
  if sought.plan ~= '' and sought.read then
    local longest = sought.fresh
    if sought.max_age ~= cjson.null then longest = math.min(longest, sought.max_age) end
    for _, entry in ipairs(variants(at.results)) do
      if at.now - entry.ms < longest * 1000 then add(hits, entry) end
    end
  end
  if sought.plan ~= '' and sought.join then
    for _, entry in ipairs(variants(at.flights)) do
      entry.job, entry.position = string.match(entry.variant, '^(.*)%.(%d+)$')
      entry.shard, entry.key = string.match(entry.text, '^(%d+) (.*)$')
      local mine = sought.distinct and entry.key == at.key and at.live(entry.job)
      add(follows, entry, mine)
    end
  end
  for _, spared in ipairs(sought.lead and {} or spare) do -- nothing else can be had
    if #hits + #follows < at.n then table.insert(spared[1], spared[2]) end
  end
  local found = {hits = {}, follows = {}}
  for i, entry in ipairs(hits) do
    found.hits[i] = {entry.variant, math.max(0, math.floor((at.now - entry.ms) / 1000)), entry.text}
  end
  for i, entry in ipairs(follows) do
    found.follows[i] = {entry.job, tonumber(entry.position), tonumber(entry.shard)}
  end
  return found
end

-- Lets others join a picture that a job makes.
local function lead(flights, variant, now, shard, key)
  redis.call('HSET', flights, variant, string.format('%.0f %d %s', now, shard, key))
  redis.call('PEXPIRE', flights, FLIGHT)
end

-- Lets the request lead what it did not find, and notes what its API key was given.
local function take_off(at, found, shard)
  local first = #found.hits + #found.follows
  local given = {}
  for _, hit in ipairs(found.hits) do given[#given + 1] = hit[1] end
  for _, follow in ipairs(found.follows) do given[#given + 1] = follow[1] .. '.' .. follow[2] end
  for position = first, at.n - 1 do
    given[#given + 1] = at.id .. '.' .. position
    lead(at.flights, given[#given], at.now, shard, at.key)
  end
  if at.sought.distinct then
    for _, variant in ipairs(given) do redis.call('ZADD', at.handed, string.format('%.0f', at.now), variant) end
    redis.call('PEXPIRE', at.handed, HANDED)
  end
end
