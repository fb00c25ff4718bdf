-- Ends flights of a job and remembers what they made.
--
-- at  results, flights: keys of the plan   index: zset of the slot's plans by the time of their newest picture; a
--     plan's results are at <index>:<plan>   id: of the job   now
-- ending  clear: positions whose flights end   ends: {position, end, whether to remember it}
--         lifetime, ms   share: most plans of this slot   member: the plan in the index

local MOST_VARIANTS, MOST_OUT = 32, 16

local function land(at, ending)
  for _, position in ipairs(ending.clear) do redis.call('HDEL', at.flights, at.id .. '.' .. position) end
  local landed = false
  for _, stop in ipairs(ending.ends) do
    local variant = at.id .. '.' .. stop[1]
    local text = string.format('%.0f ', at.now) .. stop[2]
    landed = (stop[3] and redis.call('HSETNX', at.results, variant, text) == 1) or landed
  end
  if not landed then return end
  redis.call('PEXPIRE', at.results, string.format('%.0f', ending.lifetime))
  local over = redis.call('HLEN', at.results) - MOST_VARIANTS
  for i = 1, over do redis.call('HDEL', at.results, variants(at.results)[1].variant) end
  redis.call('ZADD', at.index, string.format('%.0f', at.now), ending.member)
  local out = math.min(redis.call('ZCARD', at.index) - ending.share, MOST_OUT)
  if out > 0 then
    local popped = redis.call('ZPOPMIN', at.index, out)
    for i = 1, #popped, 2 do redis.call('UNLINK', at.index .. ':' .. popped[i]) end
  end
end
