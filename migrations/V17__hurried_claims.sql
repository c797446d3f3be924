-- What waits for a finished message is found where only those are that wait. Claims are numbered by chance.

create index outbox_message_blocked on outbox_message (record_id, destination) where base_state = 'blocked';
comment on index outbox_message_blocked is
    'The successor of a finished message: found, as a rule, to be none, without reading an index of all.';

comment on sequence outbox_lease is
    'Fencing numbers of releases before this one; the numbers of today are drawn by chance. Never reset.';
comment on column outbox_claim.lease is
    'Fencing number of the claim: that of its messages while they are held. Of 2^63, drawn by chance: a claim is not flushed, and a sequence can be set back by a crash behind numbers whose holders still live.';

do $$
begin
    alter table outbox_claim alter column message_ids set compression lz4;
exception
    when feature_not_supported then
        raise notice 'this server has no LZ4: the ids of claims are compressed as before';
end
$$;
