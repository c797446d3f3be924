-- {rows} records, each with its transaction, action, a message and a delivery that is over. Of each ten messages one is
-- dead and one is due again; two have another one of the same record behind them; one goes to another destination.
-- {rows} / 100 claims are over. Twenty births fall on a day.
--
-- No temporary table: the first one of a session makes a schema, and for that everybody plans anew.
insert into record (id, event, status, tracking_id, version, created_by)
select md5('r' || n)::uuid, 'birth', 'declared', 'B' || lpad(upper(to_hex(n)), 6, '0'), 1, 'agent'
from generate_series(1, {rows}) n;

insert into client_transaction (transaction_id, principal_id, fingerprint, reply_status, reply_body, record_id, action_id)
select 'draft-' || lpad(n::text, 7, '0'), 'agent', sha256(n::text::bytea), 202, '{}', md5('r' || n)::uuid, md5('a' || n)::uuid
from generate_series(1, {rows}) n;

insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
select md5('a' || n)::uuid, md5('r' || n)::uuid, 'draft-' || lpad(n::text, 7, '0'), 'declare', 'accepted', 1, 'declared', 'agent', '{}'
from generate_series(1, {rows}) n;

insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
select md5('r' || n)::uuid, 'birth', date '2020-01-01' + n / 20, repeat('01', 128)::bit(256), repeat('10', 128)::bit(256),
       array['nationalid:' || n], 'nobody', '{}'
from generate_series(1, {rows}) n;

insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
select case n % 10 when 1 then 'dead' when 2 then 'retrying' else 'queued' end::message_state,
       case n % 10 when 9 then 'audit' else 'search' end, 'index', 'index__declare_draft-' || lpad(n::text, 7, '0'),
       md5('r' || n)::uuid, md5('a' || n)::uuid, 'agent', '{}'
from generate_series(1, {rows}) n;
insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
select 'blocked', 'search', 'index', 'index__register_draft-' || lpad(n::text, 7, '0'), md5('r' || n)::uuid, md5('a' || n)::uuid,
       'agent', '{}'
from generate_series(1, {rows}) n
where n % 10 in (1, 4);

insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery,
                            initiator_id, created_at)
select -n, 'delivered', 'audit', 'DECLARED', 'DECLARED__declare_draft-' || lpad(n::text, 7, '0'), md5('r' || n)::uuid,
       md5('a' || n)::uuid, 1, 0, 0, 'agent', now()
from generate_series(1, {rows}) n;

-- Midnight comes: the day of half of it was empty when the reader planned.
insert into change (principal_id, record_id, action_id, at)
select 'agent-' || n, md5('r' || n)::uuid, md5('a' || n)::uuid, now() + n % 2 * interval '1 day'
from generate_series(1, {rows}) n;

insert into outbox_claim (lease, worker_id, destination, lease_until, message_ids)
select 1000 + n, md5('w')::uuid, 'search', now() + interval '1 hour', array(select generate_series(1, 100))
from generate_series(1, {rows} / 100) n;
delete from outbox_claim;
select setval('outbox_lease', 1000 + {rows});
