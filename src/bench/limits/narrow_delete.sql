-- The same where what changes is narrow: the state beside a payload that is written once. Payloads are dropped together.
with ready as materialized (
    select id from narrow
    where state = 0 and run_at <= now()
    order by run_at, id
    limit :batch::text::int
    for update skip locked
), claimed as (
    update narrow n set state = 1, attempts = attempts + 1, locked_until = now() + interval '5 minutes'
    from ready where n.id = ready.id
    returning n.id
)
select coalesce(array_agg(id), '{}')::text as ids, coalesce(string_agg(payload::text, ''), '') as payloads
from claimed join narrow_payload using (id) \gset
delete from narrow where id = any (:ids::text::bigint[]);
