#!lua flags=no-writes,allow-oom
-- With: clock
-- Gives the store's time, ms.
--
-- KEYS  1 clock

return clock(KEYS[1])
