-- The queue: destinations, live messages, what became of them, workers.

create type message_state as enum ('queued', 'blocked', 'delivering', 'retrying', 'dead', 'delivered', 'cancelled');
comment on type message_state is
    'Live: queued (ready), blocked (an earlier message of the same record and destination is unfinished), delivering (leased by a worker), retrying (waits for its next attempt), dead (rests until an operator retries or cancels it). Final, in outbox_history: delivered, cancelled.';

create type attempt_outcome as enum ('delivered', 'retry', 'dead', 'released', 'lease_expired');
comment on type attempt_outcome is
    'How an exchange ended: delivered; retry (will be tried again); dead (will not); released (cut short by ourselves, counts for nothing); lease_expired (its worker died or lost it, the answer is unknown).';

create type destination_protocol as enum ('event', 'event-registration');
comment on type destination_protocol is
    'What is sent and what an answer means. event: a JSON envelope, any 2xx is done. event-registration: the stamped declaration to {url}/event-registration, whose answer may be a verdict.';

create type destination_auth as enum ('none', 'token');
comment on type destination_auth is 'token: a short-lived RS256 token is minted for each delivery; none: no Authorization header.';

create table destination (
    name        text not null,
    url         text not null,
    protocol    destination_protocol not null,
    effects     text[] not null,
    auth        destination_auth not null,
    concurrency integer not null,
    enabled     boolean not null default true,
    paused_at   timestamptz,
    paused_by   text,
    paused_why  text,
    applied_at  timestamptz not null default now(),
    constraint destination_pkey primary key (name),
    constraint destination_name_form check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    constraint destination_effects_known check (effects <@ array['search', 'audit', 'metrics', 'notification', 'validation', 'webhook']),
    constraint destination_concurrency_positive check (concurrency > 0),
    constraint destination_pause_has_reason check ((paused_at is null) = (paused_by is null) and (paused_at is null) = (paused_why is null))
) with (fillfactor = 50);
comment on table destination is
    'Where messages go: the definition from the configuration (without secrets), applied at start, and its state.';
comment on column destination.name is 'Its name in messages, logs and metrics.';
comment on column destination.url is 'Where it listens. Holds no credentials.';
comment on column destination.protocol is 'What is sent and what an answer means.';
comment on column destination.effects is 'Which consequences it receives: search, audit, metrics, notification, validation, webhook.';
comment on column destination.auth is 'Whether deliveries carry a token.';
comment on column destination.concurrency is 'Exchanges that one instance holds open at a time.';
comment on column destination.enabled is 'False once it is gone from the configuration: it gets no new messages; live ones are kept.';
comment on column destination.paused_at is 'Since when nothing is claimed for it; null when it runs.';
comment on column destination.paused_by is 'Who paused it.';
comment on column destination.paused_why is 'Why.';
comment on column destination.applied_at is 'When the configuration was last applied.';
comment on index destination_pkey is 'Finds a destination by its name.';

create table worker (
    id           uuid not null,
    name         text not null,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    interval     interval not null,
    constraint worker_pkey primary key (id)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0);
comment on table worker is
    'Processes that deliver. A lease holds only while its worker''s heartbeat is younger than two intervals. fillfactor 50 and eager autovacuum: one row is updated every few seconds for ever.';
comment on column worker.id is 'New at each start of a process.';
comment on column worker.name is 'Host and process id, to find it.';
comment on column worker.started_at is 'When it started.';
comment on column worker.heartbeat_at is 'When it last said that it lives.';
comment on column worker.interval is 'How often it says so.';
comment on index worker_pkey is 'Finds a lease''s holder.';

create sequence outbox_lease as bigint;
comment on sequence outbox_lease is
    'Fencing numbers: each claim takes the next one, and only who knows the current one may move the message (P6). Never reset.';

create table outbox_message (
    id               bigint generated always as identity,
    state            message_state not null,
    destination      text collate "C" not null,
    kind             text not null,
    transaction_id   text collate "C" not null,
    record_id        uuid not null,
    action_id        uuid not null,
    attempt          integer not null default 0,
    rescues          integer not null default 0,
    redelivery       integer not null default 0,
    available_at     timestamptz not null default now(),
    refused_since    timestamptz,
    lease            bigint,
    lease_holder     uuid,
    lease_until      timestamptz,
    last_status      smallint,
    last_error       text,
    initiator_id     text not null,
    initiator_scopes text[] not null,
    traceparent      text,
    created_at       timestamptz not null default now(),
    constraint outbox_message_pkey primary key (id),
    constraint outbox_message_once unique (destination, transaction_id),
    constraint outbox_message_is_live check (state not in ('delivered', 'cancelled')),
    constraint outbox_message_leased_while_delivering check (
        (state = 'delivering') = (lease_holder is not null) and (state = 'delivering') = (lease_until is not null)
        and (state <> 'delivering' or lease is not null)),
    constraint outbox_message_counts check (attempt >= 0 and rescues >= 0 and redelivery >= 0)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create unique index outbox_message_one_active on outbox_message (destination, record_id) where state <> 'blocked';
create index outbox_message_in_order on outbox_message (record_id, destination, id);
create index outbox_message_queued on outbox_message (destination, id) where state = 'queued';
create index outbox_message_retrying on outbox_message (destination, available_at, id) where state = 'retrying';
create index outbox_message_delivering on outbox_message (lease_holder, lease_until) where state = 'delivering';
create index outbox_message_of_action on outbox_message (action_id);
comment on table outbox_message is
    'Live messages only: one consequence of one action for one destination. Narrow, no payload: a message is rendered from its action when it is sent. Finished ones move to outbox_history. No foreign keys: it is the hot table, and its rows are written in the transaction that writes what they name. fillfactor 70 and eager autovacuum: each row is updated once or twice and then deleted.';
comment on column outbox_message.id is 'Never changes; order of the messages of one record and destination.';
comment on column outbox_message.state is 'queued, blocked, delivering, retrying or dead.';
comment on column outbox_message.destination is 'Where it goes (destination.name).';
comment on column outbox_message.kind is 'The consequence, for example DECLARED, index, event-registration.';
comment on column outbox_message.transaction_id is
    'Its id for the receiver (Idempotency-Key), the same at each attempt: {kind}__{action}_{client transaction id}.';
comment on column outbox_message.record_id is 'The record it is about.';
comment on column outbox_message.action_id is 'The record_action it is rendered from.';
comment on column outbox_message.attempt is 'Exchanges begun that count; one cut short by ourselves does not.';
comment on column outbox_message.rescues is 'How many times its lease was lost by a dead or stuck worker; past the limit it is dead.';
comment on column outbox_message.redelivery is 'How many times it was sent again because a promised callback did not come.';
comment on column outbox_message.available_at is 'Not before then (retrying).';
comment on column outbox_message.refused_since is 'Since when the destination has answered 401 or 409 without a break; after 15 minutes it is dead.';
comment on column outbox_message.lease is 'Fencing number of the last claim. Stays after the lease is gone.';
comment on column outbox_message.lease_holder is 'The worker that delivers it now.';
comment on column outbox_message.lease_until is 'Hard end of the lease; never renewed.';
comment on column outbox_message.last_status is 'HTTP status of the last answer; null if there was none.';
comment on column outbox_message.last_error is 'Class of the last failure, for example timeout; null where there was an answer, whose status says it. Never text from outside.';
comment on column outbox_message.initiator_id is 'On whose behalf: the sub of the token minted for it.';
comment on column outbox_message.initiator_scopes is 'The scopes that were granted to the initiator when it was accepted. Never a token (P7).';
comment on column outbox_message.traceparent is 'W3C trace context of the request that caused it.';
comment on column outbox_message.created_at is 'When it was accepted.';
comment on index outbox_message_pkey is 'Finds a message by its id.';
comment on index outbox_message_once is 'A consequence is in the queue once per destination (P2).';
comment on index outbox_message_one_active is 'Order (P5): a record has at most one unblocked message per destination, whoever claims.';
comment on index outbox_message_in_order is 'Finds the predecessor of a new message and the successor of a finished one.';
comment on index outbox_message_queued is 'The claim of fresh messages; equals its order.';
comment on index outbox_message_retrying is 'The claim of due retries; equals its order.';
comment on index outbox_message_delivering is 'The rescuer''s search for lost leases.';
comment on index outbox_message_of_action is 'The deliveries of a transaction.';

create table outbox_history (
    id               bigint not null,
    state            message_state not null,
    destination      text collate "C" not null,
    kind             text not null,
    transaction_id   text collate "C" not null,
    record_id        uuid not null,
    action_id        uuid not null,
    attempt          integer not null,
    rescues          integer not null,
    redelivery       integer not null,
    last_status      smallint,
    last_error       text,
    duration         interval,
    lease            bigint,
    worker_id        uuid,
    initiator_id     text not null,
    created_at       timestamptz not null,
    finished_at      timestamptz not null default now(),
    constraint outbox_history_pkey primary key (id, finished_at),
    constraint outbox_history_is_final check (state in ('delivered', 'cancelled'))
) partition by range (finished_at);
create index outbox_history_of_action on outbox_history (action_id);
create index outbox_history_of_record on outbox_history (record_id);
comment on table outbox_history is
    'Finished messages, delivered or cancelled, partitioned by day so that retention drops a partition. A delivered row carries its last exchange itself; earlier ones are in outbox_attempt. Uniqueness is not kept here: client_transaction and record_action guard it for ever.';
comment on column outbox_history.id is 'The message''s id.';
comment on column outbox_history.state is 'delivered or cancelled.';
comment on column outbox_history.destination is 'Where it went.';
comment on column outbox_history.kind is 'The consequence.';
comment on column outbox_history.transaction_id is 'Its id for the receiver.';
comment on column outbox_history.record_id is 'The record it was about.';
comment on column outbox_history.action_id is 'The record_action it was rendered from.';
comment on column outbox_history.attempt is 'Exchanges that counted.';
comment on column outbox_history.rescues is 'Leases lost on the way.';
comment on column outbox_history.redelivery is 'Which redelivery for want of a callback it was; 0 for the first sending.';
comment on column outbox_history.last_status is 'HTTP status of the last answer; null if it finished without one (a verdict stood already, or it was cancelled).';
comment on column outbox_history.last_error is 'Class of the last failure, if any.';
comment on column outbox_history.duration is 'How long the last exchange took; null if it finished without one.';
comment on column outbox_history.lease is 'Fencing number it was finished with.';
comment on column outbox_history.worker_id is 'The worker that finished it.';
comment on column outbox_history.initiator_id is 'On whose behalf.';
comment on column outbox_history.created_at is 'When it was accepted.';
comment on column outbox_history.finished_at is 'When it was finished; decides the partition.';
comment on index outbox_history_pkey is 'Finds a finished message by its id.';
comment on index outbox_history_of_action is 'The deliveries of a transaction.';
comment on index outbox_history_of_record is 'The deliveries of a record.';

create table outbox_attempt (
    message_id  bigint not null,
    attempt     integer not null,
    outcome     attempt_outcome not null,
    destination text collate "C" not null,
    status      smallint,
    error       text,
    duration    interval,
    lease       bigint not null,
    worker_id   uuid,
    finished_at timestamptz not null default now(),
    constraint outbox_attempt_pkey primary key (message_id, lease, finished_at)
) partition by range (finished_at);
comment on table outbox_attempt is
    'Every exchange that did not end in delivery, partitioned by day. The view outbox_attempts shows the successful ones too.';
comment on column outbox_attempt.message_id is 'The message.';
comment on column outbox_attempt.attempt is 'Which attempt it was, from 1.';
comment on column outbox_attempt.outcome is 'How it ended.';
comment on column outbox_attempt.destination is 'Where it went.';
comment on column outbox_attempt.status is 'HTTP status of the answer; null if there was none.';
comment on column outbox_attempt.error is 'Class of the failure. Never text from outside.';
comment on column outbox_attempt.duration is 'How long the exchange took; null if unknown.';
comment on column outbox_attempt.lease is 'Fencing number of its claim.';
comment on column outbox_attempt.worker_id is 'The worker that made it.';
comment on column outbox_attempt.finished_at is 'When it ended, or was found lost.';
comment on index outbox_attempt_pkey is 'The attempts of a message; a lease ends once.';

create function outbox_partitions_ensure(days_ahead integer default 7) returns integer
language plpgsql set timezone to 'UTC' as $$
declare
    parent text;
    day date;
    child text;
    made integer := 0;
begin
    -- One instance at a time; a second one finds nothing left to do.
    perform pg_advisory_xact_lock(hashtext('outbox_partitions_ensure'));
    foreach parent in array array['outbox_history', 'outbox_attempt'] loop
        for day in select d::date from generate_series(current_date, current_date + days_ahead, interval '1 day') d loop
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            if to_regclass(child) is null then
                -- like + attach, because "partition of" would leave the columns without their comments
                execute format('create table %I (like %I including all)', child, parent);
                -- what fell into the default would forbid the attachment
                execute format('lock table %I in access exclusive mode', parent || '_default');
                execute format('with moved as (delete from %I where finished_at >= %L and finished_at < %L returning *)
                                insert into %I select * from moved', parent || '_default', day, day + 1, child);
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
    'Makes the daily partitions of outbox_history and outbox_attempt from today to so many days ahead; returns how many were missing. Days are UTC''s, whoever calls. Rows that had to go to the default partition move to their day. The service calls it at start and every hour.';

create table outbox_history_default (like outbox_history including all);
create table outbox_attempt_default (like outbox_attempt including all);
alter table outbox_history attach partition outbox_history_default default;
alter table outbox_attempt attach partition outbox_attempt_default default;
comment on table outbox_history_default is 'Catches rows of a day whose partition is missing, so that a completion never fails for want of one. Empty in health.';
comment on table outbox_attempt_default is 'Catches rows of a day whose partition is missing, so that a completion never fails for want of one. Empty in health.';

select outbox_partitions_ensure();
