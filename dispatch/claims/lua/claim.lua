--[[
  claim: keep all but one asker of a round away from Postgres, which decides. Asking again is safe. Promises nothing.
  KEYS[1] claim  string  {j:<job_id>}:claim   "round:provider:accept_id" pending, the same with ":C" once committed
  ARGV[1] round  ARGV[2] provider  ARGV[3] accept_id  ARGV[4] ttl_ms
  returns "first" | "yours" (same triple again) | "pending" | "committed" (another's) | "stale" (a later round stands)
]]
local mine = ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3]
local held = redis.call('GET', KEYS[1])
if held then
  if held == mine or held == mine .. ':C' then
    return 'yours'
  end
  local round = tonumber(string.match(held, '^(%d+):'))
  if round and round > tonumber(ARGV[1]) then
    return 'stale'
  end
  if round and round == tonumber(ARGV[1]) then
    if string.sub(held, -2) == ':C' then
      return 'committed'
    end
    -- A key lapses by the wall clock: once that has been set back, a claim whose asker is dead would stand for as long.
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left <= tonumber(ARGV[4]) then
      return 'pending'
    end
  end
end
redis.call('SET', KEYS[1], mine, 'PX', ARGV[4])
return 'first'
