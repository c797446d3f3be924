-- When the transactions of these submissions were committed.
select t.transaction_id, pg_xact_commit_timestamp(v.xmin)
from client_transaction t join record_version v on v.record_id = t.record_id
where t.transaction_id = any ($1)
