-- What people read: one row is one fact, in words.

create view outbox as
select m.id, m.kind as message, m.destination as "to", m.state as "is", m.attempt as after_attempts,
       case
           when m.state = 'blocked' then 'behind an earlier message of this record'
           when m.state = 'delivering' then 'until ' || to_char(m.lease_until, 'HH24:MI:SS')
           when m.state = 'retrying' then 'next at ' || to_char(m.available_at, 'HH24:MI:SS')
           when m.state = 'dead' then 'until retried or cancelled'
           else 'ready'
       end as waiting,
       coalesce(m.last_error, case when m.last_status is not null then 'http-' || m.last_status end) as because,
       m.transaction_id, m.record_id, m.created_at as since, null::timestamptz as finished_at
from outbox_message m
union all
select h.id, h.kind, h.destination, h.state, h.attempt, null,
       case when h.last_status is not null then 'http-' || h.last_status else h.last_error end,
       h.transaction_id, h.record_id, h.created_at, h.finished_at
from outbox_history h;
comment on view outbox is 'Every message, live and finished. Read a row as a sentence: this message, to that destination, is in that state, after so many attempts, because of that answer.';
comment on column outbox.id is 'The message''s id, in order of acceptance.';
comment on column outbox.message is 'The consequence, for example DECLARED, index, event-registration.';
comment on column outbox."to" is 'The destination.';
comment on column outbox."is" is 'Its state.';
comment on column outbox.after_attempts is 'Exchanges so far.';
comment on column outbox.waiting is 'What a live message waits for.';
comment on column outbox.because is 'The last answer or failure.';
comment on column outbox.transaction_id is 'Its id for the receiver; ends in the client''s transaction id.';
comment on column outbox.record_id is 'The record it is about.';
comment on column outbox.since is 'When it was accepted.';
comment on column outbox.finished_at is 'When it was delivered or cancelled; null while it is live.';

create view outbox_attempts as
select a.message_id, a.attempt, a.outcome, a.destination, a.status, a.error, a.duration, a.lease, a.worker_id, a.finished_at
from outbox_attempt a
union all
select h.id, h.attempt, 'delivered', h.destination, h.last_status, null, h.duration, h.lease, h.worker_id, h.finished_at
from outbox_history h
where h.state = 'delivered' and h.duration is not null;
comment on view outbox_attempts is 'Every exchange, the failed and the successful ones.';
comment on column outbox_attempts.message_id is 'The message (outbox.id).';
comment on column outbox_attempts.attempt is 'Which attempt it was, from 1.';
comment on column outbox_attempts.outcome is 'How it ended.';
comment on column outbox_attempts.destination is 'Where it went.';
comment on column outbox_attempts.status is 'HTTP status of the answer.';
comment on column outbox_attempts.error is 'Class of the failure.';
comment on column outbox_attempts.duration is 'How long it took.';
comment on column outbox_attempts.lease is 'Fencing number of its claim.';
comment on column outbox_attempts.worker_id is 'The worker that made it.';
comment on column outbox_attempts.finished_at is 'When it ended.';

create view outbox_backlog as
select d.name as destination,
       count(m.id) filter (where m.state = 'queued') as queued,
       count(m.id) filter (where m.state = 'blocked') as blocked,
       count(m.id) filter (where m.state = 'delivering') as delivering,
       count(m.id) filter (where m.state = 'retrying') as retrying,
       count(m.id) filter (where m.state = 'dead') as dead,
       now() - min(case when m.state = 'queued' then m.available_at
                        when m.state = 'retrying' and m.available_at <= now() then m.available_at end) as oldest_due_age,
       d.paused_at is not null as paused, d.enabled
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
comment on column outbox_backlog.paused is 'Whether an operator paused it.';
comment on column outbox_backlog.enabled is 'Whether it is in the configuration.';

create view outbox_stuck as
select m.id, m.destination, m.kind, m.record_id, m.transaction_id, m.attempt, m.rescues,
       coalesce(m.last_error, case when m.last_status is not null then 'http-' || m.last_status end, 'unknown') as because,
       (select count(*) from outbox_message b where b.record_id = m.record_id and b.destination = m.destination and b.state = 'blocked') as holds_up,
       m.created_at as since
from outbox_message m
where m.state = 'dead';
comment on view outbox_stuck is 'Messages that rest as dead: each needs a decision of an operator.';
comment on column outbox_stuck.id is 'The message.';
comment on column outbox_stuck.destination is 'The destination.';
comment on column outbox_stuck.kind is 'The consequence.';
comment on column outbox_stuck.record_id is 'The record it is about.';
comment on column outbox_stuck.transaction_id is 'Its id for the receiver.';
comment on column outbox_stuck.attempt is 'Exchanges so far.';
comment on column outbox_stuck.rescues is 'Leases lost so far.';
comment on column outbox_stuck.because is 'The last answer or failure.';
comment on column outbox_stuck.holds_up is 'How many later messages of the same record and destination wait for it.';
comment on column outbox_stuck.since is 'When it was accepted.';

create view records_waiting as
select r.id as record_id, r.event, r.tracking_id, a.id as action_id, a.transaction_id, a.created_at as since,
       case
           when m.state = 'dead' then 'the message to ' || m.destination || ' is dead'
           when m.id is not null then 'the message to ' || m.destination || ' is ' || m.state
           when a.callback_due_at is null then 'no message and no callback is due'
           when a.callback_due_at <= now() then 'the callback is overdue'
           else 'the callback is due'
       end as waits_because,
       a.callback_due_at, a.redeliveries,
       coalesce(a.callback_due_at <= now(), false) or a.redeliveries > 0 as overdue
from record r
join record_action a on a.id = r.awaiting_action_id
left join lateral (
    select o.id, o.state, o.destination from outbox_message o
    where o.action_id = a.id and o.kind = 'event-registration' order by o.id limit 1
) m on true
where r.status = 'waiting_validation';
comment on view records_waiting is 'Records whose registration awaits the country''s verdict, and why.';
comment on column records_waiting.record_id is 'The record.';
comment on column records_waiting.event is 'birth, death, marriage, ...';
comment on column records_waiting.tracking_id is 'What the citizen was given.';
comment on column records_waiting.action_id is 'The requested registration.';
comment on column records_waiting.transaction_id is 'The client''s transaction.';
comment on column records_waiting.since is 'Since when.';
comment on column records_waiting.waits_because is 'What it waits for.';
comment on column records_waiting.callback_due_at is 'Until when the country promised to call back; past it the message is sent again.';
comment on column records_waiting.redeliveries is 'How many times it was sent again.';
comment on column records_waiting.overdue is 'True once a promised callback did not come in time.';
