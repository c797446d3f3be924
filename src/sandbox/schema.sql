-- The sandbox's own tables, in a schema of their own; made by the sandbox, never by the service.
create schema if not exists sandbox;
comment on schema sandbox is 'What the sandbox''s receivers did: a ledger to hold the service to its word.';

create table if not exists sandbox.effect (
    destination    text not null,
    transaction_id text not null,
    kind           text not null,
    record_id      uuid,
    happened_at    timestamptz not null default now(),
    constraint effect_pkey primary key (destination, transaction_id)
);
comment on table sandbox.effect is 'The ledger: an effect happens when its row is first inserted, and the primary key lets it happen once.';
comment on column sandbox.effect.destination is 'Which receiver.';
comment on column sandbox.effect.transaction_id is 'The Idempotency-Key it came with.';
comment on column sandbox.effect.kind is 'What it was.';
comment on column sandbox.effect.record_id is 'The record it was about.';
comment on column sandbox.effect.happened_at is 'When it happened.';
comment on index sandbox.effect_pkey is 'Once in effect (P4).';

create table if not exists sandbox.receipt (
    id             bigint generated always as identity,
    destination    text not null,
    transaction_id text not null,
    outcome        text not null,
    received_at    timestamptz not null default now(),
    constraint receipt_pkey primary key (id),
    constraint receipt_outcome_known check (outcome in ('effect', 'suppressed', 'failed'))
);
comment on table sandbox.receipt is 'Every request that a receiver got.';
comment on column sandbox.receipt.id is 'Order of arrival.';
comment on column sandbox.receipt.destination is 'Which receiver.';
comment on column sandbox.receipt.transaction_id is 'The Idempotency-Key it came with.';
comment on column sandbox.receipt.outcome is 'effect: it happened now; suppressed: it had happened before; failed: made to fail before it happened.';
comment on column sandbox.receipt.received_at is 'When.';
comment on index sandbox.receipt_pkey is 'Order of arrival.';

create or replace view sandbox.exactly_once as
select e.destination, count(*) as effects,
       (select count(*) from sandbox.receipt r where r.destination = e.destination) as receipts,
       (select count(*) from sandbox.receipt r where r.destination = e.destination and r.outcome = 'suppressed') as suppressed,
       (select count(*) from sandbox.receipt r where r.destination = e.destination and r.outcome = 'failed') as failed
from sandbox.effect e
group by e.destination;
comment on view sandbox.exactly_once is 'Per receiver: the effects that happened, each once, and the requests it took.';
comment on column sandbox.exactly_once.destination is 'The receiver.';
comment on column sandbox.exactly_once.effects is 'Effects; unique by destination and transaction id.';
comment on column sandbox.exactly_once.receipts is 'Requests.';
comment on column sandbox.exactly_once.suppressed is 'Requests whose effect had happened before.';
comment on column sandbox.exactly_once.failed is 'Requests that were made to fail before their effect.';
