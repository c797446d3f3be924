-- Lanes: what each destination is like, whether it may be sent to, and a queue whose claims cost the same however long it is.

alter type destination_protocol rename to destination_format;
alter type destination_format rename value 'event' to 'cloudevents';
alter type destination_format rename value 'event-registration' to 'opencrvs-event-registration';
alter type destination_format add value 'opencrvs-search';
alter type destination_format add value 'opencrvs-metrics';
alter type destination_format add value 'opencrvs-audit';
alter type destination_format add value 'opencrvs-notification';
comment on type destination_format is
    'What is sent and what an answer means. cloudevents: a structured CloudEvent, any 2xx is done. opencrvs-…: what the OpenCRVS service of that name takes. opencrvs-event-registration: the stamped declaration to {url}/event-registration, whose answer may be a verdict.';

create type destination_on_dead as enum ('hold', 'skip');
comment on type destination_on_dead is
    'What a dead message does to later ones of its record. hold: they wait until it is retried or cancelled. skip: it is set aside and they go on.';

create type destination_circuit as enum ('closed', 'open', 'half_open');
comment on type destination_circuit is
    'closed: messages flow; open: too many failures in a row, nothing is claimed; half_open: one probe is on its way.';

alter table destination rename column protocol to format;
alter table destination
    add column batch            integer not null default 100,
    add column timeout          interval not null default '15 seconds',
    add column lease            interval not null default '45 seconds',
    add column retry_base       interval not null default '1 second',
    add column retry_cap        interval not null default '15 minutes',
    add column max_attempts     integer,
    add column retry_on         smallint[] not null default '{}',
    add column dead_on          smallint[] not null default '{}',
    add column on_dead          destination_on_dead not null default 'hold',
    add column backpressure     boolean not null default false,
    add column rate_limit       double precision,
    add column rate_tokens      double precision not null default 0,
    add column rate_at          timestamptz not null default now(),
    add column breaker_failures integer not null default 10,
    add column breaker_base     interval not null default '5 seconds',
    add column breaker_cap      interval not null default '5 minutes',
    add column circuit          destination_circuit not null default 'closed',
    add column circuit_failures integer not null default 0,
    add column circuit_opens    integer not null default 0,
    add column circuit_since    timestamptz not null default now(),
    add column circuit_probe_at timestamptz,
    add constraint destination_batch_positive check (batch > 0),
    add constraint destination_lease_outlasts_timeout check (timeout > interval '0' and lease > timeout),
    add constraint destination_retry_grows check (retry_base > interval '0' and retry_cap >= retry_base),
    add constraint destination_max_attempts_positive check (max_attempts > 0),
    add constraint destination_rate_limit_positive check (rate_limit > 0),
    add constraint destination_breaker_sane check (breaker_failures >= 0 and breaker_base > interval '0' and breaker_cap >= breaker_base),
    add constraint destination_circuit_counts check (circuit_failures >= 0 and circuit_opens >= 0),
    add constraint destination_circuit_has_probe check ((circuit = 'closed') = (circuit_probe_at is null));
comment on column destination.format is 'What is sent and what an answer means.';
comment on column destination.batch is 'Messages that one claim takes at most.';
comment on column destination.timeout is 'The deadline of an exchange, from the first byte sent to the last one read.';
comment on column destination.lease is 'The hard end of a lease; longer than the timeout.';
comment on column destination.retry_base is 'Upper bound of the delay before the second attempt; it doubles with each.';
comment on column destination.retry_cap is 'Upper bound of any delay.';
comment on column destination.max_attempts is 'Attempts after which a message is dead; null: for ever.';
comment on column destination.retry_on is 'HTTP statuses that are retried here though they are not by default.';
comment on column destination.dead_on is 'HTTP statuses that are final here though they are retried by default.';
comment on column destination.on_dead is 'What a dead message does to later ones of its record. A change holds for messages that die from then on.';
comment on column destination.backpressure is 'Whether its backlog counts fully against the limit past which submissions are refused.';
comment on column destination.rate_limit is 'Requests per second of all instances together; null: no limit.';
comment on column destination.rate_tokens is 'Requests that could be sent at rate_at; a bucket that holds one second''s worth.';
comment on column destination.rate_at is 'When rate_tokens was counted.';
comment on column destination.breaker_failures is 'Failures in a row (no answer, or 5xx) that open the circuit; 0: never.';
comment on column destination.breaker_base is 'How long it stays open at first; doubles with each failed probe.';
comment on column destination.breaker_cap is 'How long it stays open at most.';
comment on column destination.circuit is 'Whether messages flow: closed, open or half_open.';
comment on column destination.circuit_failures is 'Failures in a row, of all instances.';
comment on column destination.circuit_opens is 'How many times in a row it opened without a success in between.';
comment on column destination.circuit_since is 'Since when the circuit is as it is.';
comment on column destination.circuit_probe_at is 'When a probe may be sent; null while closed. While half_open: when the probe on its way is given up.';

alter table outbox_message
    add column skipped boolean not null default false,
    add constraint outbox_message_skipped_is_dead check (not skipped or state = 'dead');
comment on column outbox_message.skipped is 'Dead and set aside (destination.on_dead = skip): later messages of its record do not wait for it.';

create sequence outbox_position as bigint;
comment on sequence outbox_position is
    'Places in the queue: a message takes the next one when it becomes ready, whether by being accepted or because its predecessor finished.';
select setval('outbox_position', greatest(1, (select max(id) from outbox_message)));
alter table outbox_message add column position bigint;
update outbox_message set position = id;
alter table outbox_message
    alter column position set default nextval('outbox_position'),
    alter column position set not null;
comment on column outbox_message.position is
    'Its place in the queue: fresh messages are claimed in this order. Unlike the id it only ever grows as messages become ready, so a claim can begin where the last one ended.';

drop index outbox_message_queued;
create index outbox_message_queued on outbox_message (destination, position) where state = 'queued';
comment on index outbox_message_queued is 'The claim of fresh messages; equals its order.';
drop index outbox_message_one_active;
create unique index outbox_message_one_active on outbox_message (destination, record_id) where state <> 'blocked' and not skipped;
comment on index outbox_message_one_active is
    'Order (P5): a record has at most one message per destination that is neither blocked nor set aside, whoever claims.';
create index outbox_message_dead on outbox_message (destination, id) where state = 'dead';
comment on index outbox_message_dead is 'The dead messages of a destination, for those who retry or cancel them.';

create function outbox_pressure(depth_limit bigint)
returns table (destination text, ready bigint, oldest_due_age interval, flows boolean, backpressure boolean)
language sql stable as $$
    select d.name, q.ready, now() - least(q.since, r.since), d.circuit = 'closed' and d.paused_at is null, d.backpressure
    from destination d
    cross join lateral (
        select (select count(*) from (select from outbox_message m where m.destination = d.name and m.state = 'queued'
                                     union all
                                     select from outbox_message m where m.destination = d.name and m.state = 'retrying'
                                     limit depth_limit + 1) capped) as ready,
               (select m.available_at from outbox_message m where m.destination = d.name and m.state = 'queued' order by m.position limit 1) as since
    ) q
    cross join lateral (
        select min(m.available_at) as since from outbox_message m
        where m.destination = d.name and m.state = 'retrying' and m.available_at <= now()
    ) r
    where d.enabled
    order by d.name
$$;
comment on function outbox_pressure(bigint) is
    'Per enabled destination: ready and retrying messages (counted no further than one past the limit), the age of the oldest due one, whether messages flow (neither paused nor circuit open), and whether its backlog counts fully. What the service refuses submissions by.';

create function outbox_partitions_drop(keep_days integer) returns integer
language plpgsql set timezone to 'UTC' set lock_timeout to '250ms' as $$
declare
    child record;
    dropped integer := 0;
begin
    if keep_days < 1 then
        raise exception 'keep_days is %; at least 1 day is kept', keep_days;
    end if;
    perform pg_advisory_xact_lock(hashtext('outbox_partitions_ensure'));
    for child in
        select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent in ('outbox_history'::regclass, 'outbox_attempt'::regclass) and c.relname ~ '_\d{8}$'
        order by c.relname
    loop
        if child.day < current_date - keep_days then
            execute format('drop table %I', child.relname);
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end
$$;
comment on function outbox_partitions_drop(integer) is
    'Drops the daily partitions of outbox_history and outbox_attempt that ended more than so many days ago; returns how many. What is kept for ever is not partitioned: client_transaction, records, actions. The service calls it every hour. It waits for readers of the history for a quarter of a second only, since completions wait behind it, and fails then.';

drop view outbox_backlog;
create view outbox_backlog as
select d.name as destination,
       count(m.id) filter (where m.state = 'queued') as queued,
       count(m.id) filter (where m.state = 'blocked') as blocked,
       count(m.id) filter (where m.state = 'delivering') as delivering,
       count(m.id) filter (where m.state = 'retrying') as retrying,
       count(m.id) filter (where m.state = 'dead') as dead,
       now() - min(case when m.state = 'queued' then m.available_at
                        when m.state = 'retrying' and m.available_at <= now() then m.available_at end) as oldest_due_age,
       d.circuit, d.circuit_probe_at, d.paused_at is not null as paused, d.enabled
from destination d
left join outbox_message m on m.destination = d.name
group by d.name;
comment on view outbox_backlog is 'What is unfinished, per destination.';
comment on column outbox_backlog.destination is 'The destination.';
comment on column outbox_backlog.queued is 'Ready to be claimed.';
comment on column outbox_backlog.blocked is 'Behind an earlier message of the same record.';
comment on column outbox_backlog.delivering is 'Leased by a worker.';
comment on column outbox_backlog.retrying is 'Waiting for the next attempt.';
comment on column outbox_backlog.dead is 'Resting until an operator retries or cancels them.';
comment on column outbox_backlog.oldest_due_age is 'How long the oldest message that could be sent now has been waiting; the one number to watch.';
comment on column outbox_backlog.circuit is 'closed: messages flow; open: too many failures in a row; half_open: one probe is on its way.';
comment on column outbox_backlog.circuit_probe_at is 'When the next probe may be sent; null while closed.';
comment on column outbox_backlog.paused is 'Whether an operator paused it.';
comment on column outbox_backlog.enabled is 'Whether it is in the configuration.';
