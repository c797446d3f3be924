-- {rows} jobs: a narrow row that changes, and a payload that does not.
drop table if exists narrow, narrow_payload;
create table narrow_payload (id bigint primary key, topic text not null, payload jsonb not null);
create table narrow (
    id           bigint primary key,
    state        smallint not null default 0,
    attempts     integer not null default 0,
    run_at       timestamptz not null default now(),
    locked_until timestamptz
);
create index narrow_ready on narrow (run_at, id) where state = 0;
insert into narrow_payload select n, 'bench', {declaration}::jsonb from generate_series(1, {rows}) n;
insert into narrow (id) select n from generate_series(1, {rows}) n;
