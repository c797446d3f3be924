-- Steering: what an operator does to the queue, from psql or the command line, who may do it, and what is left of it.
--
-- Locks of the functions here: the record's row first, as everywhere, then its messages in the order of ids. The record's
-- row keeps out whoever enqueues or decides, the messages (for key share, as enqueue does) keep out whoever finishes one
-- and promotes the next: so no promotion is lost, and none is done twice.

create type operator_action_kind as enum ('retry', 'cancel', 'pause', 'resume');
comment on type operator_action_kind is 'What an operator did: retry or cancel a message, pause or resume a destination.';

create table operator_action (
    id          bigint generated always as identity,
    at          timestamptz not null default clock_timestamp(),
    by_user     text not null default session_user,
    by_name     text default nullif(left(current_setting('crvs_outbox.operator', true), 200), ''),
    action      operator_action_kind not null,
    message_id  bigint,
    destination text collate "C" not null,
    why         text,
    details     jsonb,
    constraint operator_action_pkey primary key (id),
    constraint operator_action_has_target check ((message_id is not null) = (action in ('retry', 'cancel'))),
    constraint operator_action_has_reason check (action in ('retry', 'resume') or why ~ '\S')
);
create index operator_action_of_message on operator_action (message_id) where message_id is not null;
create index operator_action_of_destination on operator_action (destination, id);
comment on table operator_action is 'Who did what to the queue, when and why (P10); append-only, kept for ever.';
comment on column operator_action.id is 'Order of the actions.';
comment on column operator_action.at is 'When.';
comment on column operator_action.by_user is 'The database user who did it (session_user).';
comment on column operator_action.by_name is
    'Who that was, as their tool says (setting crvs_outbox.operator of the session); null if it said nothing.';
comment on column operator_action.action is 'What was done.';
comment on column operator_action.message_id is 'The message; null where it was done to a destination.';
comment on column operator_action.destination is 'The destination.';
comment on column operator_action.why is 'Why, in the operator''s words; no personal data belongs there.';
comment on column operator_action.details is 'The state before and after, and the filter that chose the message if there was one.';
comment on index operator_action_pkey is 'The actions in order.';
comment on index operator_action_of_message is 'What was done to a message.';
comment on index operator_action_of_destination is 'What was done to a destination and its messages.';

create function operator_action_stays() returns trigger language plpgsql as $$
begin
    raise exception 'operator_action is append-only' using errcode = 'insufficient_privilege';
end
$$;
comment on function operator_action_stays() is 'Keeps operator_action append-only, for its owner too.';
create trigger operator_action_append_only before update or delete or truncate on operator_action
    for each statement execute function operator_action_stays();
comment on trigger operator_action_append_only on operator_action is 'Append-only (P10).';

create type outbox_change as (
    id             bigint,
    destination    text,
    kind           text,
    state_before   message_state,
    state_after    message_state,
    changed        boolean,
    note           text,
    transaction_id text,
    record_id      uuid
);
comment on type outbox_change is 'What a steering function did, or would do, to a message.';
comment on column outbox_change.id is 'The message.';
comment on column outbox_change.destination is 'Its destination.';
comment on column outbox_change.kind is 'The consequence.';
comment on column outbox_change.state_before is 'Its state before.';
comment on column outbox_change.state_after is 'Its state after.';
comment on column outbox_change.changed is 'False if there was nothing to do, or it was a dry run.';
comment on column outbox_change.note is 'In words.';
comment on column outbox_change.transaction_id is 'Its id for the receiver.';
comment on column outbox_change.record_id is 'The record it is about.';

create type outbox_destination_change as (
    destination text,
    paused      boolean,
    changed     boolean,
    note        text
);
comment on type outbox_destination_change is 'What a steering function did to a destination.';
comment on column outbox_destination_change.destination is 'The destination.';
comment on column outbox_destination_change.paused is 'Whether it is paused now.';
comment on column outbox_destination_change.changed is 'False if it was so before.';
comment on column outbox_destination_change.note is 'In words.';

create function outbox_steerable(id bigint) returns outbox_message
language plpgsql as $$
declare
    message outbox_message;
    past outbox_history;
begin
    select * into message from outbox_message m where m.id = outbox_steerable.id;
    if found and message.state = 'delivering' then
        raise exception 'message % is leased by a worker until %', outbox_steerable.id, date_trunc('second', message.lease_until)
            using errcode = 'object_in_use', hint = 'Wait for the end of the exchange, then look again.';
    elsif found then
        return message;
    end if;
    select * into past from outbox_history h where h.id = outbox_steerable.id;
    if found then
        raise exception 'message % is finished: % at %', outbox_steerable.id, past.state, date_trunc('second', past.finished_at)
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    raise exception 'there is no message %', outbox_steerable.id
        using errcode = 'no_data_found', hint = 'Finished messages are kept for some time only.';
end
$$;
comment on function outbox_steerable(bigint) is
    'A live message that nobody has leased; an error that says what is the matter with any other. Internal.';

create function outbox_known_destination(name text) returns destination
language plpgsql as $$
declare
    known destination;
begin
    select * into known from destination d where d.name = outbox_known_destination.name;
    if not found then
        raise exception 'there is no destination "%"', outbox_known_destination.name
            using errcode = 'no_data_found',
                  hint = coalesce('There are: ' || (select string_agg(d.name, ', ' order by d.name) from destination d), 'There is none.');
    end if;
    return known;
end
$$;
comment on function outbox_known_destination(text) is 'The destination of this name; an error if there is none. Internal.';

create function outbox_requeue(ids bigint[], why text, filter jsonb, dry_run boolean) returns setof outbox_change
language plpgsql as $$
declare
    -- Those that go back in line: others of their record may have gone on meanwhile.
    aside bigint[] := array(select m.id from outbox_message m where m.id = any (ids) and m.skipped);
begin
    if not dry_run then
        if cardinality(aside) > 0 then
            perform 1 from record r
            where r.id in (select m.record_id from outbox_message m where m.id = any (aside))
            order by r.id for no key update;
            perform 1 from outbox_message m
            where (m.record_id, m.destination) in (select o.record_id, o.destination from outbox_message o where o.id = any (aside))
            order by m.id for key share;
        end if;
        perform 1 from outbox_message m
        where m.id = any (ids) and m.state in ('dead', 'retrying')
        order by m.id for no key update;
    end if;
    return query
    with picked as materialized (
        select m.id, m.state as before, m.skipped,
               case
                   when m.state = 'retrying' then m.state
                   when m.skipped and (
                       row_number() over (partition by m.record_id, m.destination, m.skipped order by m.id) > 1
                       or exists (select from outbox_message a where a.record_id = m.record_id and a.destination = m.destination
                                  and a.state <> 'blocked' and not a.skipped))
                   then 'blocked' else 'queued'
               end::message_state as after,
               m.destination, m.kind, m.transaction_id, m.record_id
        from outbox_message m
        where m.id = any (ids) and m.state in ('dead', 'retrying') and (not m.skipped or m.id = any (aside))
    ), changed as (
        update outbox_message m
        set state = picked.after, skipped = false, available_at = clock_timestamp(),
            position = case when picked.after = 'queued' then nextval('outbox_position') else m.position end,
            attempt = case when picked.before = 'dead' then 0 else m.attempt end,
            rescues = case when picked.before = 'dead' then 0 else m.rescues end,
            refused_since = case when picked.before = 'dead' then null else m.refused_since end
        from picked
        where m.id = picked.id and not dry_run
        returning m.id
    ), noted as (
        insert into operator_action (action, message_id, destination, why, details)
        select 'retry', picked.id, picked.destination, nullif(btrim(outbox_requeue.why), ''),
               jsonb_strip_nulls(jsonb_build_object('before', picked.before, 'after', picked.after, 'filter', filter))
        from picked join changed using (id)
        order by picked.id
    )
    select picked.id, picked.destination, picked.kind, picked.before, picked.after, changed.id is not null,
           case
               when picked.before = 'retrying' then 'its next attempt is due now'
               when picked.after = 'blocked' then 'back in line: it goes as soon as the message of its record that is ahead is finished'
               else 'ready, with all its attempts before it'
           end || case when dry_run then ' (dry run: nothing was changed)' else '' end,
           picked.transaction_id, picked.record_id
    from picked left join changed using (id)
    order by picked.id;
    if found and not dry_run then
        perform pg_notify('crvs_outbox', '');
    end if;
exception
    when lock_not_available or deadlock_detected then
        raise exception 'somebody else is changing these messages right now'
            using errcode = 'lock_not_available', hint = 'Nothing was changed. Try again in a moment.';
end
$$;
comment on function outbox_requeue(bigint[], text, jsonb, boolean) is
    'Retries those of these messages that are dead or retrying; leaves out all others. Internal: outbox_retry and outbox_retry_where.';

create function outbox_retry(id bigint, why text default null) returns setof outbox_change
language plpgsql security definer set lock_timeout to '2s' as $$
declare
    message outbox_message := outbox_steerable(id);
    already text;
begin
    already := case
        when message.state = 'queued' then 'nothing to do: it is ready already'
        when message.state = 'blocked' then 'nothing to do: it waits for an earlier message of its record; see outbox_explain'
        when message.state = 'retrying' and message.available_at <= clock_timestamp() then 'nothing to do: its next attempt is due already'
    end;
    if already is not null then
        return next (message.id, message.destination, message.kind, message.state, message.state, false, already,
                     message.transaction_id, message.record_id)::outbox_change;
        return;
    end if;
    return query select * from outbox_requeue(array[message.id], why, null, false);
    if not found then
        perform outbox_steerable(id);
        raise exception 'message % has just changed its state', outbox_retry.id
            using errcode = 'object_in_use', hint = 'Look again.';
    end if;
end
$$;
comment on function outbox_retry(bigint, text) is
    'Tries a message again now. A dead one gets all its attempts anew; one that was set aside goes back in line, behind the message of its record that is on its way; one that waits for its next attempt is due at once. Refuses a leased or finished one. Example: select * from outbox_retry(42, ''their disk was full'').';

create function outbox_retry_where(
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
        where (m.state = 'dead' or (m.state = 'retrying' and m.available_at > clock_timestamp()))
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
comment on function outbox_retry_where(text, text, timestamptz, boolean, message_state, integer, text) is
    'Tries all dead messages again, and makes those due now that wait for their next attempt, where the filters fit: the destination; what the views show as "because" (a pattern of like, such as http-5%); accepted since; only those dead or only those retrying; at most so many, the oldest first. A dry run unless dry_run => false: shows what it would do. Leased messages are left out. Example: select * from outbox_retry_where(destination => ''search'', error_like => ''http-5%'', dry_run => false).';

create function outbox_cancel(id bigint, why text) returns setof outbox_change
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
comment on function outbox_cancel(bigint, text) is
    'Takes a message out for good, into outbox_history as cancelled, and lets the next one of its record go. The reason is mandatory. Refuses a leased or finished one. Example: select * from outbox_cancel(42, ''sent by hand'').';

create function outbox_pause(destination text, why text) returns outbox_destination_change
language plpgsql security definer set lock_timeout to '2s' as $$
declare
    known destination := outbox_known_destination(destination);
begin
    if coalesce(outbox_pause.why, '') !~ '\S' then
        raise exception 'a pause needs a reason' using errcode = 'invalid_parameter_value';
    end if;
    update destination d
    set paused_at = clock_timestamp(), paused_why = btrim(outbox_pause.why),
        paused_by = coalesce(nullif(left(current_setting('crvs_outbox.operator', true), 200), '') || ' (' || session_user || ')', session_user)
    where d.name = known.name and d.paused_at is null;
    if found then
        insert into operator_action (action, destination, why) values ('pause', known.name, btrim(outbox_pause.why));
        return (known.name, true, true, 'nothing more is claimed for it; what is on its way ends as usual'::text);
    end if;
    known := outbox_known_destination(known.name);
    return (known.name, true, false,
            format('it has been paused since %s by %s: %s', date_trunc('second', known.paused_at), known.paused_by, known.paused_why));
end
$$;
comment on function outbox_pause(text, text) is
    'Stops deliveries to a destination, in every instance, from the next claim on; submissions go on. The reason is mandatory. Example: select * from outbox_pause(''search'', ''they migrate'').';

create function outbox_resume(destination text, why text default null) returns outbox_destination_change
language plpgsql security definer set lock_timeout to '2s' as $$
declare
    known destination := outbox_known_destination(destination);
    resumed boolean;
begin
    update destination d set paused_at = null, paused_by = null, paused_why = null
    where d.name = known.name and d.paused_at is not null;
    resumed := found;
    if resumed then
        insert into operator_action (action, destination, why, details)
        values ('resume', known.name, nullif(btrim(outbox_resume.why), ''),
                jsonb_build_object('paused_at', known.paused_at, 'paused_by', known.paused_by, 'paused_why', known.paused_why));
        perform pg_notify('crvs_outbox', '');
    end if;
    return (known.name, false, resumed, (
            case when resumed then 'messages are claimed for it again' else 'it was not paused' end
            || case when not known.enabled then '; but no instance has it in its configuration'
                    when known.circuit <> 'closed'
                    then format('; but its circuit is %s: a probe goes at %s', known.circuit, date_trunc('second', known.circuit_probe_at))
                    else '' end)::text);
end
$$;
comment on function outbox_resume(text, text) is
    'Ends the pause of a destination; its lanes wake at once. An open circuit stays open until a probe succeeds. Example: select * from outbox_resume(''search'').';

create function outbox_hindrances(destination text, queue_position bigint) returns table (reason text, detail text, what_to_do text)
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
            where m.destination = d.name and m.state = 'queued' and m.position < queue_position limit 100000) q);
        if ahead >= d.rate_limit
           or d.rate_tokens + d.rate_limit * extract(epoch from clock_timestamp() - d.rate_at) < 1 then
            return query select 'rate-limited',
                format('"%s" gets %s requests per second; %s messages are ahead', d.name, d.rate_limit, ahead),
                'wait, or raise its rate_limit in the configuration';
        end if;
    end if;
end
$$;
comment on function outbox_hindrances(text, bigint) is
    'Why a message with this place in the queue would not be sent to this destination now; no row if it would. Internal: outbox_explain.';

create function outbox_explain_lease(message outbox_message) returns table (reason text, detail text, what_to_do text)
language plpgsql stable as $$
#variable_conflict use_column
declare
    holder worker;
    others interval;
begin
    select * into holder from worker w where w.id = message.lease_holder;
    if message.lease_until > clock_timestamp() and holder.heartbeat_at > clock_timestamp() - 2 * holder.interval then
        return query select 'leased',
            format('%s is delivering it, attempt %s, until %s at most', holder.name, message.attempt, date_trunc('second', message.lease_until)),
            'wait: it is on its way';
        return;
    end if;
    select min(w.interval) into others from worker w where w.heartbeat_at > clock_timestamp() - 2 * w.interval;
    return query select 'lease-lost',
        case when holder.id is null then 'the worker that had it is gone'
             when message.lease_until <= clock_timestamp() then format('%s did not finish it until %s', holder.name, date_trunc('second', message.lease_until))
             else format('%s had it and has been silent since %s', holder.name, date_trunc('second', holder.heartbeat_at)) end,
        case when others is null then 'start the service with its workers (crvs-outbox serve): the first one takes it back'
             else format('wait: a living worker takes it back within %s', others) end;
    if others is null then
        return query select 'no-worker', 'no worker is running', 'start the service with its workers (crvs-outbox serve)';
    end if;
end
$$;
comment on function outbox_explain_lease(outbox_message) is 'Who has a leased message, and whether they live. Internal: outbox_explain.';

create function outbox_explain_finished(id bigint) returns table (reason text, detail text, what_to_do text)
language plpgsql stable as $$
#variable_conflict use_column
declare
    past outbox_history;
    cancelled operator_action;
begin
    select * into past from outbox_history h where h.id = outbox_explain_finished.id;
    if past.state = 'delivered' then
        return query select 'finished',
            format('"%s" took it at %s', past.destination, date_trunc('second', past.finished_at))
            || case when past.duration is null then ' (without an exchange: its purpose was fulfilled otherwise)'
                    else format(', answering %s to attempt %s', past.last_status, past.attempt) end,
            'nothing';
    elsif past.state = 'cancelled' then
        select * into cancelled from operator_action a where a.message_id = past.id and a.action = 'cancel' order by a.id desc limit 1;
        return query select 'finished',
            format('cancelled at %s by %s: %s', date_trunc('second', past.finished_at),
                   coalesce(cancelled.by_name || ' (' || cancelled.by_user || ')', cancelled.by_user, 'somebody'),
                   coalesce(cancelled.why, 'no reason was left')),
            'nothing';
    else
        return query select 'unknown',
            format('there is no message %s; or it was finished so long ago that its history is dropped', outbox_explain_finished.id),
            'look for its record: select * from record_timeline where tracking_id = …';
    end if;
end
$$;
comment on function outbox_explain_finished(bigint) is 'What became of a message that is not live. Internal: outbox_explain.';

create function outbox_explain(id bigint) returns table (reason text, detail text, what_to_do text)
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
        where m.record_id = message.record_id and m.destination = message.destination and m.state <> 'blocked' and not m.skipped;
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
            where m.destination = message.destination and m.state = 'queued' and m.position < message.position limit 100000) q);
        return query select 'ready',
            format('nothing is wrong; %s messages to "%s" are ahead', count, message.destination),
            'wait: it is sent as soon as a slot is free';
    end if;
end
$$;
comment on function outbox_explain(bigint) is
    'Why is this message not moving? One row per reason: a stable word (finished, unknown, behind, paused, circuit-open, rate-limited, leased, lease-lost, retrying, dead, no-worker, not-configured, ready), what it is in detail, and what to do. Example: select * from outbox_explain(42).';

-- What people read, without personal data.

create or replace view outbox_stuck as
select m.id, m.destination, m.kind, m.record_id, m.transaction_id, m.attempt, m.rescues,
       coalesce(m.last_error, case when m.last_status is not null then 'http-' || m.last_status end, 'unknown') as because,
       case when m.skipped then 0
            else (select count(*) from outbox_message b where b.record_id = m.record_id and b.destination = m.destination and b.state = 'blocked')
       end as holds_up,
       m.created_at as since, m.skipped
from outbox_message m
where m.state = 'dead';
comment on column outbox_stuck.skipped is 'Set aside: later messages of its record go on without it.';

create view records as
select r.id as record_id, r.event, r.status, r.tracking_id, r.version, r.held_action, r.created_by, r.created_at, r.updated_at
from record r;
comment on view records is 'Every record, without its content and its registration number.';
comment on column records.record_id is 'The record.';
comment on column records.event is 'birth, death, marriage, ...';
comment on column records.status is 'Where it stands.';
comment on column records.tracking_id is 'What the citizen was given.';
comment on column records.version is 'Its current version.';
comment on column records.held_action is 'What is held back until somebody says that it is no duplicate.';
comment on column records.created_by is 'Who submitted it.';
comment on column records.created_at is 'When it was accepted.';
comment on column records.updated_at is 'When it last changed.';

create view record_timeline as
select r.id as record_id, r.tracking_id, a.created_at as at, 'action' as entry, a.action::text as what, a.status::text as "is",
       null::text as "to", null::integer as attempts, null::text as because, a.record_status, a.created_by as by, a.transaction_id,
       a.id as action_id, null::bigint as message_id, null::timestamptz as finished_at, a.callback_due_at, a.ordinal
from record r
join record_action a on a.record_id = r.id
union all
select r.id, r.tracking_id, m.created_at, 'message', m.kind, m.state::text, m.destination, m.attempt,
       coalesce(m.last_error, 'http-' || m.last_status), null, m.initiator_id, m.transaction_id, m.action_id, m.id, null, null, m.id
from record r
join outbox_message m on m.record_id = r.id
union all
select r.id, r.tracking_id, h.created_at, 'message', h.kind, h.state::text, h.destination, h.attempt,
       coalesce('http-' || h.last_status, h.last_error), null, h.initiator_id, h.transaction_id, h.action_id, h.id, h.finished_at, null, h.id
from record r
join outbox_history h on h.record_id = r.id;
comment on view record_timeline is
    'What was done to a record and what was sent because of it, without its content. Example: select * from record_timeline where tracking_id = ''B…'' order by at, message_id nulls first, ordinal.';
comment on column record_timeline.record_id is 'The record.';
comment on column record_timeline.tracking_id is 'What the citizen was given.';
comment on column record_timeline.at is 'When it was done or accepted.';
comment on column record_timeline.entry is 'action or message.';
comment on column record_timeline.what is 'The action, or the consequence that is sent.';
comment on column record_timeline."is" is 'The action''s status (requested, accepted, rejected), or the message''s state.';
comment on column record_timeline."to" is 'The message''s destination.';
comment on column record_timeline.attempts is 'The message''s exchanges so far.';
comment on column record_timeline.because is 'The last answer or failure.';
comment on column record_timeline.record_status is 'The record''s status after the action.';
comment on column record_timeline.by is 'Who acted, or on whose behalf it is sent.';
comment on column record_timeline.transaction_id is 'The client''s transaction, or the message''s id for its receiver.';
comment on column record_timeline.action_id is 'The action, or the one that the message is rendered from.';
comment on column record_timeline.message_id is 'The message.';
comment on column record_timeline.finished_at is 'When the message was delivered or cancelled.';
comment on column record_timeline.callback_due_at is 'Until when the country promised to call back.';
comment on column record_timeline.ordinal is 'Order among the actions, or among the messages.';

-- Who may do what.

create function outbox_grant() returns void
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
            'grant select on outbox_message, outbox_history, outbox_attempt, destination, worker, operator_action,
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
        grant select, insert on record_version, record_attachment, attachment, attachment_chunk, outbox_history, outbox_attempt to crvs_outbox_app;
        grant select, insert, update on record, record_action, destination to crvs_outbox_app;
        grant select, insert, update, delete on client_transaction, outbox_message, worker to crvs_outbox_app;
        grant insert on operator_action to crvs_outbox_app;
        grant usage, select on sequence outbox_lease, outbox_position to crvs_outbox_app;
        grant execute on function outbox_partitions_ensure(integer), outbox_partitions_drop(integer) to crvs_outbox_app;
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
comment on function outbox_grant() is
    'Gives the roles crvs_outbox_reader, crvs_outbox_operator and crvs_outbox_app what they need here, those of them that exist. May be run again at any time, by the owner of the tables.';

-- Functions find their tables wherever they were created, whatever the caller's search_path. Those that change something
-- do it as the owner of the tables, for the roles that outbox_grant names.
do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid from pg_proc p
        where p.pronamespace = quote_ident(current_schema())::regnamespace
          and (p.proname in ('operator_action_stays', 'outbox_steerable', 'outbox_known_destination', 'outbox_requeue', 'outbox_retry',
                             'outbox_retry_where', 'outbox_cancel', 'outbox_pause', 'outbox_resume', 'outbox_hindrances', 'outbox_explain_lease',
                             'outbox_explain_finished', 'outbox_explain', 'outbox_grant', 'outbox_partitions_ensure', 'outbox_partitions_drop'))
    loop
        execute format('alter function %s set search_path to %I, pg_temp', function, current_schema());
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
-- The service makes and drops partitions without owning the tables.
alter function outbox_partitions_ensure(integer) security definer;
alter function outbox_partitions_drop(integer) security definer;

-- Roles belong to the whole server: another database's migration may be making them at this moment.
do $$
declare
    made record;
    patience text := current_setting('lock_timeout');
begin
    perform set_config('lock_timeout', '60s', true);
    for made in
        select * from (values
            ('crvs_outbox_reader', 'Reads every job table and view of crvs-outbox, and no declaration.'),
            ('crvs_outbox_operator', 'Reads like crvs_outbox_reader; retries, cancels, pauses and resumes by the functions outbox_….'),
            ('crvs_outbox_app', 'What the service crvs-outbox needs to run, without changing the schema.')) as r (name, comment)
        where not exists (select from pg_roles where rolname = r.name)
    loop
        begin
            execute format('create role %I nologin', made.name);
            execute format('comment on role %I is %L', made.name, made.comment);
        exception
            when duplicate_object or unique_violation or lock_not_available or internal_error then
                raise notice 'the role % was made by somebody else', made.name;
            when insufficient_privilege then
                raise notice 'this user may not make the role %', made.name;
        end;
    end loop;
    perform set_config('lock_timeout', patience, true);
end
$$;
select outbox_grant();
