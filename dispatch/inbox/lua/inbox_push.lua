--[[
  inbox_push: append event frames to a user's copy and hand them to the workers that hold his sockets. Asking again is safe.
  KEYS[1] copy   stream  {u:<user_id>}:in  ids seq-0, at most 512
  KEYS[2] meta   hash    {u:<user_id>}:m   epoch, top
  KEYS[3] wake   channel {u:<user_id>}:ev
  ARGV[1] epoch of the history in Postgres
  ARGV[2] seq of the first frame; the others follow without gaps
  ARGV[3] hand-over header, "" for no hand-over (every socket of the user is on the caller)
  ARGV[4] ttl_s
  ARGV[5..] frames
  returns "added" | "had" (all of them before) | "gap" (frames between the copy's top and the first are missing: fill from Postgres)
]]
local first = tonumber(ARGV[2])
local last = first + #ARGV - 5
if ARGV[3] ~= '' then
  for i = 5, #ARGV do
    redis.call('SPUBLISH', KEYS[3], ARGV[3] .. ' ' .. (first + i - 5) .. ' ' .. ARGV[i])
  end
end
local known = redis.call('HMGET', KEYS[2], 'epoch', 'top')
local top = tonumber(known[2])
if known[1] ~= ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  top = nil
end
if top and last <= top then
  return 'had'
end
if top and first > top + 1 then
  return 'gap'
end
for i = 5, #ARGV do
  local seq = first + i - 5
  if not top or seq > top then
    redis.call('XADD', KEYS[1], 'MAXLEN', '512', seq .. '-0', 'f', ARGV[i])
  end
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'top', last)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'added'
