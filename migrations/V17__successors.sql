-- What waits for a finished message is found where only those are that wait.

do $$
begin
    alter table outbox_claim alter column message_ids set compression lz4;
exception
    when feature_not_supported then
        raise notice 'this server has no LZ4: the ids of claims are compressed as before';
    when lock_not_available then
        raise notice 'outbox_claim is in use: the ids of claims are compressed as before, until somebody says this again';
end
$$;

create index outbox_message_blocked on outbox_message (record_id, destination) where base_state = 'blocked';
comment on index outbox_message_blocked is
    'The successor of a finished message: found, as a rule, to be none, without reading an index of all.';
comment on index outbox_message_in_order is
    'All of a record, and the predecessor of a new message. Without the id, of which they are few: where the queue is taken to be empty, an index that has the id in the last place looks as good for finding one by it as the key.';
