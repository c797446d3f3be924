-- Status without polling: what moved, for whoever waits to hear of it.

create table change (
    xid          xid8 not null default pg_current_xact_id(),
    principal_id text collate "C" not null,
    record_id    uuid not null,
    action_id    uuid not null,
    at           timestamptz not null default now()
) partition by range (at);
create index change_in_order on change (xid);
create index change_of_principal on change (principal_id, xid);
comment on table change is
    'Hints: something about the transaction of this action moved, for the principal who sent it. Written in the database transaction that moved it; what it is now is computed when it is read. Append-only, partitioned by day, kept changes.days. After a restore from a dump: truncate it, since the numbers of database transactions begin anew.';
comment on column change.xid is
    'The database transaction that wrote it. What a reader has not seen yet is what was not visible in the snapshot that it last read with: so what commits late is neither skipped nor waited for.';
comment on column change.principal_id is 'Whose transaction moved: the only one who is told of it here.';
comment on column change.record_id is 'The record it is about.';
comment on column change.action_id is 'The record_action, and by it the client''s transaction, that moved.';
comment on column change.at is 'When the database transaction began; decides the partition.';
comment on index change_in_order is 'What is new, for the one reader of an instance that tells all who wait.';
comment on index change_of_principal is 'What is new for one caller.';

alter table outbox_message add column owner_id text collate "C";
comment on column outbox_message.owner_id is
    'Whose transaction it belongs to, and so who is told of it in change, where that is not the initiator: what somebody resumes is done on behalf of whoever had begun it.';

create table change_default (like change including all);
alter table change attach partition change_default default;
comment on table change_default is 'Catches rows of a day whose partition is missing, so that a completion never fails for want of one. Empty in health.';

create or replace function outbox_partitions_ensure(days_ahead integer default 7) returns integer
language plpgsql security definer set timezone to 'UTC' as $$
declare
    parent text;
    key text;
    day date;
    child text;
    made integer := 0;
begin
    -- One instance at a time; a second one finds nothing left to do.
    perform pg_advisory_xact_lock(hashtext('outbox_partitions_ensure'));
    for parent, key in values ('outbox_history', 'finished_at'), ('outbox_attempt', 'finished_at'), ('change', 'at') loop
        for day in select d::date from generate_series(current_date, current_date + days_ahead, interval '1 day') d loop
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            if to_regclass(child) is null then
                -- like + attach, because "partition of" would leave the columns without their comments
                execute format('create table %I (like %I including all)', child, parent);
                -- what fell into the default would forbid the attachment
                execute format('lock table %I in access exclusive mode', parent || '_default');
                execute format('with moved as (delete from %I where %I >= %L and %I < %L returning *)
                                insert into %I select * from moved', parent || '_default', key, day, key, day + 1, child);
                execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, day, day + 1);
                execute format('comment on table %I is %L', child, parent || ' of ' || day);
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end
$$;
comment on function outbox_partitions_ensure(integer) is
    'Makes the daily partitions of outbox_history, outbox_attempt and change from today to so many days ahead; returns how many were missing. Days are UTC''s, whoever calls. Rows that had to go to the default partition move to their day. The service calls it at start and every hour.';
select outbox_partitions_ensure();

create function change_partitions_drop(keep_days integer) returns integer
language plpgsql security definer set timezone to 'UTC' set lock_timeout to '250ms' as $$
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
        where i.inhparent = 'change'::regclass and c.relname ~ '_\d{8}$'
        order by c.relname
    loop
        -- A day more than cursors are good for: a database transaction may be open while a cursor is given out.
        if child.day < current_date - keep_days - 1 then
            execute format('drop table %I', child.relname);
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end
$$;
comment on function change_partitions_drop(integer) is
    'Drops the daily partitions of change that ended more than so many days, and one more, ago; returns how many. The service calls it every hour. It waits for readers for a quarter of a second only, since completions wait behind it, and fails then.';

-- As in V5, and it says to the initiator that something moved.
create or replace function outbox_cancel(id bigint, why text) returns setof outbox_change
language plpgsql security definer set lock_timeout to '2s' as $$
declare
    message outbox_message := outbox_steerable(id);
begin
    if coalesce(outbox_cancel.why, '') !~ '\S' then
        raise exception 'a cancellation needs a reason' using errcode = 'invalid_parameter_value';
    end if;
    perform 1 from record r where r.id = message.record_id for no key update;
    perform 1 from outbox_message m
    where m.record_id = message.record_id and m.destination = message.destination
    order by m.id for key share;
    perform 1 from outbox_message m where m.id = message.id for update;
    message := outbox_steerable(id);

    delete from outbox_message m where m.id = message.id;
    insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery,
                                last_status, last_error, lease, initiator_id, created_at)
    values (message.id, 'cancelled', message.destination, message.kind, message.transaction_id, message.record_id, message.action_id,
            message.attempt, message.rescues, message.redelivery, message.last_status, message.last_error, message.lease,
            message.initiator_id, message.created_at);
    insert into operator_action (action, message_id, destination, why, details)
    values ('cancel', message.id, message.destination, btrim(outbox_cancel.why),
            jsonb_build_object('before', message.state, 'after', 'cancelled'));
    insert into change (principal_id, record_id, action_id) values (coalesce(message.owner_id, message.initiator_id), message.record_id, message.action_id);
    return next (message.id, message.destination, message.kind, message.state, 'cancelled', true,
                 case when message.kind = 'event-registration'
                      then 'it will never be sent; its record goes on waiting for a verdict until one comes or it is corrected'
                      else 'it will never be sent' end,
                 message.transaction_id, message.record_id)::outbox_change;

    -- A later statement than the delete: it sees what was added while that one waited.
    return query
    update outbox_message m
    set state = 'queued', available_at = clock_timestamp(), position = nextval('outbox_position')
    where m.state = 'blocked' and m.id = (
        select n.id from outbox_message n
        where n.record_id = message.record_id and n.destination = message.destination and not n.skipped
        order by n.id limit 1
    ) and not exists (
        -- one that was set aside, or waits, can go while another of its record is on its way
        select from outbox_message a
        where a.record_id = message.record_id and a.destination = message.destination and a.state <> 'blocked' and not a.skipped
    )
    returning m.id, m.destination, m.kind, 'blocked'::message_state, m.state, true, 'it was the next of its record',
              m.transaction_id, m.record_id;
    perform pg_notify('crvs_outbox', '');
exception
    when lock_not_available or deadlock_detected then
        raise exception 'somebody else is changing message % or its record right now', outbox_cancel.id
            using errcode = 'lock_not_available', hint = 'Nothing was changed. Try again in a moment.';
end
$$;

-- Functions find their tables wherever they were created, whatever the caller's search_path.
do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid from pg_proc p
        where p.pronamespace = quote_ident(current_schema())::regnamespace
          and p.proname in ('outbox_partitions_ensure', 'change_partitions_drop', 'outbox_cancel')
    loop
        execute format('alter function %s set search_path to %I, pg_temp', function, current_schema());
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
