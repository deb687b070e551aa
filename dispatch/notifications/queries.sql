-- name: recipient_locales :many
-- Each user's language. $1 user_ids uuid[]
SELECT user_id, locale FROM notice_locales($1);

-- name: notice_write :many
-- Store notifications whose key is new, with their deliveries; the rows to tell live. $1 ids uuid[], $2 recipients uuid[], $3 types text[],
-- $4 titles text[], $5 bodies text[], $6 datas json[], $7 keys text[], $8 channels text[] (words with blanks between)
SELECT user_id, body FROM notice_write($1, $2, $3, $4, $5, $6, $7, $8);
