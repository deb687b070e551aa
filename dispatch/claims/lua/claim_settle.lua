--[[
  claim_settle: after the judge spoke, mark the own claim committed or let go of it. Touches no claim but the caller's.
  KEYS[1] claim  string  {j:<job_id>}:claim
  ARGV[1] round  ARGV[2] provider  ARGV[3] accept_id  ARGV[4] ttl_ms of a committed claim; 0: let go
  returns 1 done | 0 not the caller's (any more)
]]
local mine = ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3]
local held = redis.call('GET', KEYS[1])
if held ~= mine and held ~= mine .. ':C' then
  return 0
end
if tonumber(ARGV[4]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], mine .. ':C', 'PX', ARGV[4])
end
return 1
