-- {rows} records of which one message is dead and the next one waits behind it. Nobody looks for the records themselves.
create temporary table made as
select n,
       ('01800000-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid as record_id,
       ('01800001-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 20, 3) || '-' || substr(md5(n::text), 8, 12))::uuid as action_id,
       md5((-n)::text)::uuid::text as transaction_id
from generate_series(1, {rows}) n;

insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes, attempt,
                            last_status)
select 'dead', 'bench', 'index', 'index__declare_' || transaction_id, record_id, action_id, 'bench', '{"declare"}', 5, 400
from made order by n;

insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
select 'blocked', 'bench', 'index', 'index__register_' || transaction_id, record_id, action_id, 'bench', '{"declare"}'
from made order by n;

drop table made;
