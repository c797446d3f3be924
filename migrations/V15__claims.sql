-- Claims that touch no index: what a worker takes is written down once per batch, and its messages change in place.
-- After the transaction that filled base_state: an index that is built in it would be of no use to whoever had begun before.

drop index outbox_message_queued, outbox_message_retrying, outbox_message_delivering, outbox_message_dead, outbox_message_one_active;
create unique index outbox_message_one_active on outbox_message (destination, record_id) where base_state <> 'blocked' and not skipped;
comment on index outbox_message_one_active is
    'Order (P5): a record has at most one message per destination that is neither blocked nor set aside, whoever claims.';
drop index outbox_message_in_order;
create index outbox_message_in_order on outbox_message (record_id, destination);
comment on index outbox_message_in_order is
    'Finds the predecessor of a new message and the successor of a finished one. Without the id, of which they are few: where the queue is taken to be empty, an index that has the id in the last place looks as good for finding one by it as the key.';
create index outbox_message_queued on outbox_message (destination, position) where base_state = 'queued';
comment on index outbox_message_queued is 'The claim of fresh messages; equals its order.';
create index outbox_message_retrying on outbox_message (destination, available_at, id) where base_state = 'retrying';
comment on index outbox_message_retrying is 'The claim of due retries; equals its order.';
create index outbox_message_dead on outbox_message (destination, id) where base_state = 'dead';
comment on index outbox_message_dead is 'The dead messages of a destination, for those who retry or cancel them.';

create table outbox_claim (
    lease       bigint not null,
    worker_id   uuid not null,
    destination text collate "C" not null,
    lease_until timestamptz not null,
    message_ids bigint[] not null,
    claimed_at  timestamptz not null default now(),
    constraint outbox_claim_pkey primary key (lease),
    constraint outbox_claim_not_empty check (cardinality(message_ids) > 0)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table outbox_claim is
    'What workers hold: one row per claim, written with it. By this the rescuer finds the messages of a dead worker without an index on their leases. A row goes when all of its messages are settled or taken back; one that is left over names messages that have another lease, or none, and is nobody''s loss.';
comment on column outbox_claim.lease is 'Fencing number of the claim: that of its messages while they are held.';
comment on column outbox_claim.worker_id is 'The worker that claimed.';
comment on column outbox_claim.destination is 'Where the messages go.';
comment on column outbox_claim.lease_until is 'Hard end of the lease.';
comment on column outbox_claim.message_ids is 'The messages that were claimed.';
comment on column outbox_claim.claimed_at is 'When.';
comment on index outbox_claim_pkey is 'Finds a claim by its fencing number.';
insert into outbox_claim (lease, worker_id, destination, lease_until, message_ids)
select lease, lease_holder, destination, lease_until, array[id] from outbox_message where state = 'delivering';

comment on sequence outbox_lease is
    'Fencing numbers: each claim takes the next one, for all messages of its batch, and only who knows the current one may move a message (P6). Never reset.';
comment on column outbox_message.lease is 'Fencing number of the last claim, the same for all messages that it took. Stays after the lease is gone.';

comment on function outbox_pressure(bigint) is
    'Per enabled destination: messages that are ready, being delivered or retrying (counted no further than one past the limit), the age of the oldest due one, whether messages flow (neither paused nor circuit open), and whether its backlog counts fully. What the service refuses submissions by.';
create or replace function outbox_pressure(depth_limit bigint)
returns table (destination text, ready bigint, oldest_due_age interval, flows boolean, backpressure boolean)
language sql stable as $$
    select d.name, q.ready, now() - least(q.since, r.since), d.circuit = 'closed' and d.paused_at is null, d.backpressure
    from destination d
    cross join lateral (
        -- by the indexes alone: what is delivered at the moment, some hundreds at most, is counted too
        select (select count(*) from (select from outbox_message m where m.destination = d.name and m.base_state = 'queued'
                                     union all
                                     select from outbox_message m where m.destination = d.name and m.base_state = 'retrying'
                                     limit depth_limit + 1) capped) as ready,
               (select m.available_at from outbox_message m
                where m.destination = d.name and m.base_state = 'queued' and m.state = 'queued' order by m.position limit 1) as since
    ) q
    cross join lateral (
        select min(m.available_at) as since from outbox_message m
        where m.destination = d.name and m.base_state = 'retrying' and m.state = 'retrying' and m.available_at <= now()
    ) r
    where d.enabled
    order by d.name
$$;

-- What goes by the indexes of the queue: the same as before, by the state that they have.

create or replace function outbox_hindrances(destination text, queue_position bigint) returns table (reason text, detail text, what_to_do text)
language plpgsql stable as $$
#variable_conflict use_column
declare
    d destination;
    silent worker;
    ahead bigint;
begin
    select * into d from destination where name = outbox_hindrances.destination;
    if d.name is null or not d.enabled then
        return query select 'not-configured',
            format('no instance has the destination "%s" in its configuration', outbox_hindrances.destination),
            format('put "%s" back into the configuration, or cancel what is left for it', outbox_hindrances.destination);
    end if;
    if d.paused_at is not null then
        return query select 'paused',
            format('"%s" has been paused since %s by %s: %s', d.name, date_trunc('second', d.paused_at), d.paused_by, d.paused_why),
            format('select * from outbox_resume(%L)', d.name);
    end if;
    if d.circuit = 'open' then
        return query select 'circuit-open',
            format('"%s" failed %s times in a row; the circuit is open since %s, the next probe goes at %s',
                   d.name, d.circuit_failures, date_trunc('second', d.circuit_since), date_trunc('second', d.circuit_probe_at)),
            format('mend %s; the circuit closes by itself after the first success', d.url);
    elsif d.circuit = 'half_open' then
        return query select 'circuit-open',
            format('"%s" failed %s times in a row; a probe has been on its way since %s', d.name, d.circuit_failures, date_trunc('second', d.circuit_since)),
            'wait for the probe: its success closes the circuit';
    end if;
    if not exists (select from worker w where w.heartbeat_at > clock_timestamp() - 2 * w.interval) then
        select * into silent from worker w order by w.heartbeat_at desc limit 1;
        return query select 'no-worker',
            case when silent.id is null then 'no worker is running'
                 else format('no worker is running; the last one, %s, was heard at %s', silent.name, date_trunc('second', silent.heartbeat_at)) end,
            'start the service with its workers (crvs-outbox serve)';
    end if;
    if d.rate_limit is not null then
        ahead := (select count(*) from (
            select from outbox_message m
            where m.destination = d.name and m.base_state = 'queued' and m.state = 'queued' and m.position < queue_position limit 100000) q);
        if ahead >= d.rate_limit
           or d.rate_tokens + d.rate_limit * extract(epoch from clock_timestamp() - d.rate_at) < 1 then
            return query select 'rate-limited',
                format('"%s" gets %s requests per second; %s messages are ahead', d.name, d.rate_limit, ahead),
                'wait, or raise its rate_limit in the configuration';
        end if;
    end if;
end
$$;

create or replace function outbox_explain(id bigint) returns table (reason text, detail text, what_to_do text)
language plpgsql stable as $$
#variable_conflict use_column
declare
    message outbox_message;
    ahead outbox_message;
    because text;
    count bigint;
begin
    select * into message from outbox_message m where m.id = outbox_explain.id;
    if not found then
        return query select * from outbox_explain_finished(outbox_explain.id);
        return;
    end if;
    because := coalesce(message.last_error, 'http-' || message.last_status, 'unknown');
    case message.state
    when 'delivering' then
        return query select * from outbox_explain_lease(message);
        return;
    when 'blocked' then
        select * into ahead from outbox_message m
        where m.record_id = message.record_id and m.destination = message.destination and m.base_state <> 'blocked' and not m.skipped;
        return query select 'behind',
            format('message %s of the same record is %s and goes first', ahead.id, ahead.state),
            format('see what is said of message %s', ahead.id);
        return query select e.reason, format('message %s: %s', ahead.id, e.detail), e.what_to_do from outbox_explain(ahead.id) e;
        return;
    when 'dead' then
        count := (select count(*) from outbox_message m
                  where m.record_id = message.record_id and m.destination = message.destination and m.state = 'blocked');
        return query select 'dead',
            format('given up after %s attempts at %s because of %s', message.attempt, date_trunc('second', message.available_at), because)
            || case when message.skipped then '; it was set aside, later ones of its record go on'
                    when count > 0 then format('; %s later ones of its record wait for it', count)
                    else '' end,
            format('mend the cause, then select * from outbox_retry(%s); or select * from outbox_cancel(%s, why)', message.id, message.id);
        return;
    when 'retrying' then
        if message.available_at > clock_timestamp() then
            return query select 'retrying',
                format('attempt %s ended with %s; the next one is due at %s', message.attempt, because, date_trunc('second', message.available_at))
                || case when message.refused_since is null then ''
                        else format('; refused without a break since %s, and dead after 15 minutes of that', date_trunc('second', message.refused_since)) end,
                format('wait, or select * from outbox_retry(%s) to try it now', message.id);
            return query select * from outbox_hindrances(message.destination, message.position);
            return;
        end if;
    else
        null;
    end case;
    return query select * from outbox_hindrances(message.destination, message.position);
    if not found then
        count := (select count(*) from (
            select from outbox_message m
            where m.destination = message.destination and m.base_state = 'queued' and m.state = 'queued' and m.position < message.position limit 100000) q);
        return query select 'ready',
            format('nothing is wrong; %s messages to "%s" are ahead', count, message.destination),
            'wait: it is sent as soon as a slot is free';
    end if;
end
$$;

create or replace function outbox_retry_where(
    destination text default null,
    error_like  text default null,
    since       timestamptz default null,
    dry_run     boolean default true,
    state       message_state default null,
    at_most     integer default null,
    why         text default null
) returns setof outbox_change
language plpgsql security definer set lock_timeout to '2s' as $$
#variable_conflict use_column
declare
    ids bigint[];
    filter jsonb := jsonb_strip_nulls(jsonb_build_object('destination', outbox_retry_where.destination, 'error_like', outbox_retry_where.error_like,
        'since', outbox_retry_where.since, 'state', outbox_retry_where.state, 'at_most', outbox_retry_where.at_most));
begin
    if outbox_retry_where.destination is not null then
        perform outbox_known_destination(outbox_retry_where.destination);
    end if;
    if outbox_retry_where.state not in ('dead', 'retrying') then
        raise exception 'only dead and retrying messages can be retried, not those that are %', outbox_retry_where.state
            using errcode = 'invalid_parameter_value';
    end if;
    ids := array(
        select m.id from outbox_message m
        where (m.base_state = 'dead' or (m.base_state = 'retrying' and m.state = 'retrying' and m.available_at > clock_timestamp()))
          and (outbox_retry_where.state is null or m.state = outbox_retry_where.state)
          and (outbox_retry_where.destination is null or m.destination = outbox_retry_where.destination)
          and (outbox_retry_where.since is null or m.created_at >= outbox_retry_where.since)
          and (outbox_retry_where.error_like is null
               or coalesce(m.last_error, 'http-' || m.last_status, 'unknown') like outbox_retry_where.error_like)
        order by m.id
        limit outbox_retry_where.at_most
    );
    return query select * from outbox_requeue(ids, outbox_retry_where.why, filter, coalesce(outbox_retry_where.dry_run, true));
end
$$;

create or replace function outbox_grant() returns void
language plpgsql as $$
declare
    role text;
    missing text[] := '{}';
begin
    foreach role in array array['crvs_outbox_reader', 'crvs_outbox_operator', 'crvs_outbox_app'] loop
        if not exists (select from pg_roles r where r.rolname = role) then
            missing := missing || role;
            continue;
        end if;
        begin
            execute format('grant usage on schema %I to %I', current_schema(), role);
        exception when insufficient_privilege then
            raise warning 'the owner of the schema % has to grant its usage to %', current_schema(), role;
        end;
        execute format(
            'grant select on outbox_message, outbox_history, outbox_attempt, outbox_claim, destination, worker, operator_action,
                 change, record_duplicate, duplicate_rules, duplicate_check,
                 outbox, outbox_attempts, outbox_backlog, outbox_stuck, records, records_waiting, record_timeline to %I', role);
        execute format('grant execute on function outbox_explain(bigint), outbox_hindrances(text, bigint), outbox_explain_lease(outbox_message),
                            outbox_explain_finished(bigint), outbox_pressure(bigint) to %I', role);
    end loop;

    foreach role in array array['crvs_outbox_operator', 'crvs_outbox_app'] loop
        continue when role = any (missing);
        execute format('grant execute on function outbox_retry(bigint, text),
                            outbox_retry_where(text, text, timestamptz, boolean, message_state, integer, text),
                            outbox_cancel(bigint, text), outbox_pause(text, text), outbox_resume(text, text) to %I', role);
    end loop;

    if 'crvs_outbox_app' <> all (missing) then
        grant select, insert on record_version, record_attachment, outbox_history, outbox_attempt, change to crvs_outbox_app;
        grant select, insert, update on record, record_action, destination, record_match, record_duplicate to crvs_outbox_app;
        grant select, update on duplicate_rules, duplicate_check to crvs_outbox_app;
        grant select, insert, update, delete on client_transaction, outbox_message, outbox_claim, worker, attachment, attachment_blob, attachment_chunk,
            attachment_upload to crvs_outbox_app;
        grant insert on operator_action to crvs_outbox_app;
        grant usage, select on sequence outbox_lease, outbox_position to crvs_outbox_app;
        grant execute on function outbox_partitions_ensure(integer), outbox_partitions_drop(integer), change_partitions_drop(integer) to crvs_outbox_app;
        if to_regclass('refinery_schema_history') is not null then
            grant select on refinery_schema_history to crvs_outbox_app;
        end if;
    end if;

    if cardinality(missing) > 0 then
        raise warning 'these roles are missing: %. Let somebody who may create roles run "create role … nologin", then run "select outbox_grant()"',
            array_to_string(missing, ', ');
    end if;
end
$$;

create or replace view outbox_stuck as
select m.id, m.destination, m.kind, m.record_id, m.transaction_id, m.attempt, m.rescues,
       coalesce(m.last_error, case when m.last_status is not null then 'http-' || m.last_status end, 'unknown') as because,
       case when m.skipped then 0
            else (select count(*) from outbox_message b where b.record_id = m.record_id and b.destination = m.destination and b.base_state = 'blocked')
       end as holds_up,
       m.created_at as since, m.skipped
from outbox_message m
where m.base_state = 'dead';

-- Replacing a function keeps who may run it, but not its settings.
do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid from pg_proc p
        where p.pronamespace = quote_ident(current_schema())::regnamespace
          and p.proname in ('outbox_hindrances', 'outbox_explain', 'outbox_retry_where', 'outbox_grant')
    loop
        execute format('alter function %s set search_path to %I, pg_temp', function, current_schema());
    end loop;
end
$$;
select outbox_grant();
