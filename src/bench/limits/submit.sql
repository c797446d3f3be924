-- One submission, statement by statement in one transaction, as a program with an ORM would write it: the rows of ours.
begin;
with made as materialized (
    select nextval('bench_number') as n
), claimed as (
    insert into client_transaction (transaction_id, principal_id, fingerprint)
    select 'bench-' || lpad(n::text, 14, '0'), 'bench-agent', sha256(n::text::bytea) from made
)
select n::text as n, 'bench-' || lpad(n::text, 14, '0') as transaction_id, bench_id('01900000', n)::text as record_id,
       bench_id('01900001', n)::text as action_id, bench_tracking_id(n) as tracking_id
from made \gset
insert into record (id, event, status, tracking_id, version, created_by)
values (:record_id::text::uuid, 'birth', 'declared', :tracking_id::text, 1, 'bench-agent');
insert into record_version (record_id, version, declaration, created_by)
values (:record_id::text::uuid, 1, :declaration::text::json, 'bench-agent');
insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
select :record_id::text::uuid, 'birth', date '2006-01-01' + (n % 7300)::int, bench_bits(n), bench_bits(n + 7), '{}', :names::text,
       bench_trigrams(n)
from (select :n::text::bigint as n) one;
insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
values (:action_id::text::uuid, :record_id::text::uuid, :transaction_id::text, 'declare', 'accepted', 1, 'declared', 'bench-agent',
        '{declare}');
insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes, traceparent)
select 'queued', destination, kind, kind || '__declare_' || :transaction_id::text, :record_id::text::uuid, :action_id::text::uuid,
       'bench-agent', '{declare}', :traceparent::text
from (values ('metrics', 'sent-notification-for-review'), ('audit', 'DECLARED'), ('search', 'index'),
             ('notification', 'sent-notification-for-review')) m (destination, kind);
insert into change (principal_id, record_id, action_id)
values ('bench-agent', :record_id::text::uuid, :action_id::text::uuid);
update client_transaction
set reply_status = 202, reply_body = :reply::text, record_id = :record_id::text::uuid, action_id = :action_id::text::uuid
where transaction_id = :transaction_id::text;
commit;
