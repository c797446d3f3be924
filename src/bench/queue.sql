-- A message for each of {destinations} and each of the records {first} to {last}, which are declared here: what as many submissions
-- leave behind. Identifiers grow with the number, as those of submissions grow with time.
create temporary table made as
select n,
       ('01900000-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid as record_id,
       ('01900001-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 20, 3) || '-' || substr(md5(n::text), 8, 12))::uuid as action_id,
       md5(n::text)::uuid::text as transaction_id
from generate_series({first}, {last}) n;

insert into record (id, event, status, tracking_id, version, created_by)
select record_id, 'birth', 'declared', 'B' || upper(lpad(to_hex(n), 6, '0')), 1, 'bench' from made order by n;

insert into record_version (record_id, version, declaration, created_by)
select record_id, 1, {declaration}::json, 'bench' from made order by n;

insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
select action_id, record_id, transaction_id, 'declare', 'accepted', 1, 'declared', 'bench', '{"declare"}' from made order by n;

insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
select 'queued', d.name, 'index', 'index__declare_' || transaction_id, record_id, action_id, 'bench', '{"declare"}'
from made cross join unnest({destinations}::text[]) with ordinality as d (name, ord)
order by n, ord;

drop table made;
