-- As many submissions in one transaction, a statement for each table: the rows of ours.
begin;
with made as materialized (
    select nextval('bench_number') as n from generate_series(1, :batch::text::int)
), claimed as (
    insert into client_transaction (transaction_id, principal_id, fingerprint)
    select 'bench-' || lpad(n::text, 14, '0'), 'bench-agent', sha256(n::text::bytea) from made
)
select array_agg(n order by n)::text as numbers from made \gset
insert into record (id, event, status, tracking_id, version, created_by)
select bench_id('01900000', n), 'birth', 'declared', bench_tracking_id(n), 1, 'bench-agent'
from unnest(:numbers::text::bigint[]) n;
insert into record_version (record_id, version, declaration, created_by)
select bench_id('01900000', n), 1, :declaration::text::json, 'bench-agent' from unnest(:numbers::text::bigint[]) n;
insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
select bench_id('01900000', n), 'birth', date '2006-01-01' + (n % 7300)::int, bench_bits(n), bench_bits(n + 7), '{}', :names::text,
       bench_trigrams(n)
from unnest(:numbers::text::bigint[]) n;
insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
select bench_id('01900001', n), bench_id('01900000', n), 'bench-' || lpad(n::text, 14, '0'), 'declare', 'accepted', 1, 'declared',
       'bench-agent', '{declare}'
from unnest(:numbers::text::bigint[]) n;
insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes, traceparent)
select 'queued', destination, kind, kind || '__declare_bench-' || lpad(n::text, 14, '0'), bench_id('01900000', n),
       bench_id('01900001', n), 'bench-agent', '{declare}', :traceparent::text
from unnest(:numbers::text::bigint[]) n,
     (values ('metrics', 'sent-notification-for-review'), ('audit', 'DECLARED'), ('search', 'index'),
             ('notification', 'sent-notification-for-review')) m (destination, kind);
insert into change (principal_id, record_id, action_id)
select 'bench-agent', bench_id('01900000', n), bench_id('01900001', n) from unnest(:numbers::text::bigint[]) n;
update client_transaction
set reply_status = 202, reply_body = :reply::text, record_id = bench_id('01900000', n), action_id = bench_id('01900001', n)
from unnest(:numbers::text::bigint[]) n
-- by key, whatever the planner believes of a table that was empty a moment ago
where transaction_id = any (array['bench-' || lpad(n::text, 14, '0')]);
commit;
