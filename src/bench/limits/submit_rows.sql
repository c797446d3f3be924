-- Rows of each table, by the number of submissions, and how wide they are.
with submissions as (select count(*)::float8 as n from client_transaction)
select t.name, coalesce(t.rows / nullif(n, 0), 0) as per_submission, coalesce(t.width, 0)::float8 as width
from submissions, (
    select 'client_transaction' as name, count(*) as rows, avg(pg_column_size(t)) as width from client_transaction t
    union all select 'record', count(*), avg(pg_column_size(t)) from record t
    union all select 'record_version', count(*), avg(pg_column_size(t)) from record_version t
    union all select 'record_match', count(*), avg(pg_column_size(t)) from record_match t
    union all select 'record_duplicate', count(*), avg(pg_column_size(t)) from record_duplicate t
    union all select 'record_action', count(*), avg(pg_column_size(t)) from record_action t
    union all select 'outbox_message', count(*), avg(pg_column_size(t)) from outbox_message t
    union all select 'outbox_history', count(*), avg(pg_column_size(t)) from outbox_history t
    union all select 'change', count(*), avg(pg_column_size(t)) from change t
) t
order by t.name
