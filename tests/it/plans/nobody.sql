-- Nothing is being delivered.
delete from outbox_claim;
update outbox_message set state = 'queued', lease = null, lease_holder = null, lease_until = null, attempt = 0, rescues = 0
where id <= 10000 and state = 'delivering';
