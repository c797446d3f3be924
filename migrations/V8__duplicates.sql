-- Possible duplicates: what records are compared by, which pairs were found, and the rules. No extension is needed.

create table duplicate_rules (
    single            boolean not null default true,
    enabled         boolean not null default false,
    days            integer not null default 3,
    name_similarity double precision not null default 0.5,
    threshold       double precision not null default 0.75,
    max_candidates  integer not null default 20,
    constraint duplicate_rules_pkey primary key (single),
    constraint duplicate_rules_one_row check (single),
    constraint duplicate_rules_days check (days between 0 and 366),
    constraint duplicate_rules_name_similarity check (name_similarity between 0 and 1),
    constraint duplicate_rules_threshold check (threshold between 0 and 1),
    constraint duplicate_rules_max_candidates check (max_candidates between 1 and 200)
);
insert into duplicate_rules default values;
comment on table duplicate_rules is
    'When two records are possible duplicates: one row, written at each start from the section duplicates of the configuration, so that all instances judge alike.';
comment on column duplicate_rules.single is 'Always true: there is one row.';
comment on column duplicate_rules.enabled is 'Whether records are compared. False until a service has started.';
comment on column duplicate_rules.days is 'How many days apart two births or deaths may be.';
comment on column duplicate_rules.name_similarity is 'How alike names must be for two records to be compared, from 0 to 1.';
comment on column duplicate_rules.threshold is 'From which score on two records are possible duplicates, from 0 to 1.';
comment on column duplicate_rules.max_candidates is 'How many possible duplicates of one record are reported at most.';
comment on index duplicate_rules_pkey is 'There is one row.';

create table record_match (
    record_id   uuid not null,
    event       text not null,
    day         date,
    subject     bit(256),
    mother      bit(256),
    identifiers text[] not null,
    names       text not null,
    trigrams    integer[] not null,
    counts      boolean not null default true,
    changed     xid8 not null default pg_current_xact_id(),
    constraint record_match_pkey primary key (record_id),
    constraint record_match_record_fk foreign key (record_id) references record (id)
) with (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 2000);
create index record_match_day on record_match (event, day) include (record_id, subject, mother) where counts;
create index record_match_identifiers on record_match using gin (identifiers) with (fastupdate = off) where counts;
create index record_match_trigrams on record_match using gin (trigrams) with (fastupdate = on, gin_pending_list_limit = 256);
create index record_match_changed on record_match (changed) where counts;
comment on table record_match is
    'What each record is compared and searched by, computed from its current version when that is written. Personal data: names and identifiers in another spelling. No job table holds any of it. Vacuumed every 2000 rows, however many there are: what was accepted lately is compared the most, by an index alone.';
comment on column record_match.record_id is 'The record.';
comment on column record_match.event is 'That of the record; only births and deaths are compared.';
comment on column record_match.day is 'The child''s birth or the death; null if unknown.';
comment on column record_match.subject is 'The trigrams of the child''s or the deceased''s name, each hashed to one of 256 bits; null if unknown. Personal data.';
comment on column record_match.mother is 'The same of the mother''s name (births). Personal data.';
comment on column record_match.identifiers is 'The mother''s (births) or the deceased''s identifiers, as type:value. Personal data.';
comment on column record_match.names is 'The names of the people that the record is about, in lower case and without accents, for the search by name. Personal data.';
comment on column record_match.trigrams is 'The hashed trigrams of names. Personal data.';
comment on column record_match.counts is 'Whether new records are compared with it: not once it is rejected or archived.';
comment on column record_match.changed is 'The database transaction that wrote it: what the periodic check goes by.';
comment on index record_match_pkey is 'One row per record.';
comment on index record_match_day is 'Compares a new record with those of the days around it, without visiting their rows.';
comment on index record_match_identifiers is 'Finds the records that share an identifier.';
comment on index record_match_trigrams is 'The search by name.';
comment on index record_match_changed is 'The periodic check reads only what is new.';

create type duplicate_resolution as enum ('not_duplicate', 'corrected', 'rejected', 'archived');
comment on type duplicate_resolution is
    'Why a pair is no possible duplicate any more: somebody said so (for good), a correction made them differ, or one of the two was rejected or archived. All but the first end if the pair is found again.';

create table record_duplicate (
    record_a    uuid not null,
    record_b    uuid not null,
    score       double precision not null,
    found_at    timestamptz not null default now(),
    resolution  duplicate_resolution,
    resolved_at timestamptz,
    resolved_by text,
    constraint record_duplicate_pkey primary key (record_a, record_b),
    constraint record_duplicate_a_fk foreign key (record_a) references record (id),
    constraint record_duplicate_b_fk foreign key (record_b) references record (id),
    constraint record_duplicate_ordered check (record_a < record_b),
    constraint record_duplicate_score check (score between 0 and 1),
    constraint record_duplicate_resolved_whole check (
        (resolution is null) = (resolved_at is null) and (resolution is null) = (resolved_by is null))
);
create index record_duplicate_of_b on record_duplicate (record_b);
comment on table record_duplicate is
    'Pairs of records that may register the same event, each once: open while resolution is null. Holds ids and scores, nothing of the declarations.';
comment on column record_duplicate.record_a is 'The record with the smaller id.';
comment on column record_duplicate.record_b is 'The other one.';
comment on column record_duplicate.score is 'How likely they are of one event, from 0 to 1: src/records/duplicates/score.rs.';
comment on column record_duplicate.found_at is 'When it was found, the last time.';
comment on column record_duplicate.resolution is 'Why it is no possible duplicate any more; null while it is open.';
comment on column record_duplicate.resolved_at is 'When it was resolved.';
comment on column record_duplicate.resolved_by is 'Who did it.';
comment on index record_duplicate_pkey is 'A pair is there once, whichever of the two was found.';
comment on index record_duplicate_of_b is 'The pairs of a record, from the other side.';

create table duplicate_check (
    single        boolean not null default true,
    since       pg_snapshot not null default pg_current_snapshot(),
    until       pg_snapshot,
    past        xid8,
    past_record uuid,
    constraint duplicate_check_pkey primary key (single),
    constraint duplicate_check_one_row check (single),
    constraint duplicate_check_turn_whole check ((past is null) = (past_record is null) and (past is null or until is not null))
);
insert into duplicate_check default values;
comment on table duplicate_check is
    'How far the periodic check for duplicates has come: one row, which an instance locks while it checks. It finds pairs that were accepted at the same moment and so did not see each other.';
comment on column duplicate_check.single is 'Always true: there is one row.';
comment on column duplicate_check.since is 'What was visible in this snapshot is checked.';
comment on column duplicate_check.until is 'The snapshot up to which the present turn checks; null between turns.';
comment on column duplicate_check.past is 'Where the present turn has come to: record_match.changed.';
comment on column duplicate_check.past_record is 'The same: record_match.record_id.';
comment on index duplicate_check_pkey is 'There is one row.';
