-- Claims a batch, hands its payloads to the client, deletes it: a queue that keeps nothing.
with ready as materialized (
    select id from plain
    where state = 0 and run_at <= now()
    order by run_at, id
    limit :batch::text::int
    for update skip locked
), claimed as (
    update plain p set state = 1, attempts = attempts + 1, locked_until = now() + interval '5 minutes'
    from ready where p.id = ready.id
    returning p.id, p.payload
)
select coalesce(array_agg(id), '{}')::text as ids, coalesce(string_agg(payload::text, ''), '') as payloads from claimed \gset
delete from plain where id = any (:ids::text::bigint[]);
