-- {rows} messages that were delivered today.
insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery,
                            last_status, duration, lease, worker_id, initiator_id, created_at)
select n - {rows} - 1, 'delivered', 'bench', 'index', 'index__declare_' || md5((-n)::text)::uuid::text,
       ('018f0000-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid,
       ('018f0001-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
           || substr(md5(n::text), 20, 3) || '-' || substr(md5(n::text), 8, 12))::uuid,
       1, 0, 0, 200, interval '1 millisecond', n, '018f0000-0000-7000-8000-000000000000', 'bench', now()
from generate_series(1, {rows}) n;
