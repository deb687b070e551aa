--[[
  inbox_read: the frames after a seq, if the copy holds every one of them up to the newest. Reads only.
  KEYS[1] copy  stream  {u:<user_id>}:in
  KEYS[2] meta  hash    {u:<user_id>}:m
  ARGV[1] epoch
  ARGV[2] after: the seq the device has
  ARGV[3] newest: the user's head in Postgres
  returns list of frames, oldest first | "no" (another history, behind the head, or trimmed: ask Postgres)
]]
local known = redis.call('HMGET', KEYS[2], 'epoch', 'top')
if known[1] ~= ARGV[1] or tonumber(known[2]) ~= tonumber(ARGV[3]) then
  return 'no'
end
local after = tonumber(ARGV[2])
local entries = redis.call('XRANGE', KEYS[1], '(' .. after .. '-0', '+')
-- A trimmed stream answers with later entries and no error: the first must be the one wanted, and none may be missing.
if #entries ~= tonumber(ARGV[3]) - after then
  return 'no'
end
local frames = {}
for i, entry in ipairs(entries) do
  if entry[1] ~= (after + i) .. '-0' then
    return 'no'
  end
  frames[i] = entry[2][2]
end
return frames
