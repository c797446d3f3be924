-- What ours wrote, for the limit to write the same.
select v.declaration::text as declaration, t.reply_body as reply, m.names,
       (select traceparent from outbox_message o where o.record_id = v.record_id limit 1) as traceparent
from client_transaction t join record_version v on v.record_id = t.record_id join record_match m on m.record_id = t.record_id
limit 1
