-- {rows} jobs in one plain table.
drop table if exists plain;
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
insert into plain (topic, payload) select 'bench', {declaration}::jsonb from generate_series(1, {rows}) n;
