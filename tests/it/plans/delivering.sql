-- A thousand messages are being delivered, in ten claims of a worker that lives. Ten more are in one of a worker that
-- nobody knows, and ten in one whose end has passed: these were lost twenty times before.
insert into worker (id, name, interval) values (md5('w')::uuid, 'plans', interval '1 day') on conflict do nothing;

insert into outbox_claim (lease, worker_id, destination, lease_until, message_ids)
select c, md5(case c when 11 then 'lost' else 'w' end)::uuid, case c when 12 then 'audit' else 'search' end,
       now() + case c when 12 then interval '-1 hour' else interval '1 day' end,
       array(select n * 10 - case c when 11 then 5 when 12 then 1 else 0 end
             from generate_series(case when c <= 10 then 100 * c - 99 else 1 end, case when c <= 10 then 100 * c else 10 end) n)
from generate_series(1, 12) c;

update outbox_message m
set state = 'delivering', lease = c.lease, lease_holder = c.worker_id, lease_until = c.lease_until, attempt = 1,
    rescues = case c.lease when 12 then 20 else 0 end
from outbox_claim c cross join lateral unnest(c.message_ids) as i (id)
where m.id = i.id;
