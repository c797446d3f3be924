-- What a message is when nobody delivers it: the queue's indexes are to go by that, and not by its state.

alter table outbox_message add column base_state message_state not null default 'queued';
update outbox_message set base_state = case
    when state <> 'delivering' then state
    when attempt > 1 or rescues > 0 then 'retrying'
    else 'queued'
end
where state <> 'queued';
alter table outbox_message
    add constraint outbox_message_has_base check (
        (state = 'delivering' and base_state in ('queued', 'retrying')) or state = base_state),
    set (fillfactor = 50);
comment on column outbox_message.base_state is
    'The state; while delivering, the one that it was claimed from. Indexes go by this and not by state, so that a claim changes nothing that is indexed and writes no index (a HOT update). Kept by a trigger: nobody else sets it.';
comment on table outbox_message is
    'Live messages only: one consequence of one action for one destination. Narrow, no payload: a message is rendered from its action when it is sent. Finished ones move to outbox_history. No foreign keys: it is the hot table, and its rows are written in the transaction that writes what they name. fillfactor 50 and eager autovacuum: each row is claimed, in place, and then deleted.';

create function outbox_message_rest() returns trigger
language plpgsql as $$
begin
    new.base_state := new.state;
    return new;
end
$$;
comment on function outbox_message_rest() is 'Keeps outbox_message.base_state.';
-- Its condition is false for a claim and for a message that is accepted as ready: the function is not called for them.
create trigger outbox_message_rest before insert or update of state on outbox_message
    for each row when (new.state <> 'delivering' and new.base_state <> new.state) execute function outbox_message_rest();
comment on trigger outbox_message_rest on outbox_message is 'base_state follows state, except into delivering.';
revoke all on function outbox_message_rest() from public;
do $$
begin
    execute format('alter function outbox_message_rest() set search_path to %I, pg_temp', current_schema());
end
$$;
