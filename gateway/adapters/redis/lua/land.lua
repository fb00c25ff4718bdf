#!lua flags=allow-oom
-- With: clock, variants, land
-- Ends flights of a plan that all projects share, after their job's record in another slot has been written; also those
-- of a job that was refused there. Idempotent.
--
-- KEYS  1 results   2 flights   3 index   4 clock
-- ARGV  1 job   2 ending (JSON, as land.lua of lib/ says)

land({results = KEYS[1], flights = KEYS[2], index = KEYS[3], now = clock(KEYS[4]), id = ARGV[1]}, cjson.decode(ARGV[2]))
