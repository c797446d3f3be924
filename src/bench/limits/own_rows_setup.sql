-- The business, and a queue beside it; what earlier rounds wrote is taken away.
drop table if exists business, plain;
create table business (
    id      bigint generated always as identity primary key,
    payload jsonb not null,
    at      timestamptz not null default now()
);
create table plain (
    id           bigint generated always as identity primary key,
    topic        text not null,
    payload      jsonb not null,
    state        smallint not null default 0,
    attempts     integer not null default 0,
    run_at       timestamptz not null default now(),
    locked_until timestamptz
);
create index plain_ready on plain (run_at, id) where state = 0;
