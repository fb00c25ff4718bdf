-- Gives the pictures of a plan, the oldest first: what is remembered or what is in flight.
-- hash: variant ('<job>.<position>') -> '<ms> <text>'
local function variants(key)
  local found, raw = {}, redis.call('HGETALL', key)
  for i = 1, #raw, 2 do
    local ms, text = string.match(raw[i + 1], '^(%d+) (.*)$')
    found[#found + 1] = {variant = raw[i], ms = tonumber(ms), text = text}
  end
  table.sort(found, function(a, b)
    if a.ms ~= b.ms then return a.ms < b.ms end
    return a.variant < b.variant
  end)
  return found
end
