-- What the roles need of the tables since V6. No declaration, no attachment, and nothing that records are compared by, for
-- readers and operators.

create or replace function outbox_grant() returns void
language plpgsql as $$
declare
    role text;
    missing text[] := '{}';
begin
    foreach role in array array['crvs_outbox_reader', 'crvs_outbox_operator', 'crvs_outbox_app'] loop
        if not exists (select from pg_roles r where r.rolname = role) then
            missing := missing || role;
            continue;
        end if;
        begin
            execute format('grant usage on schema %I to %I', current_schema(), role);
        exception when insufficient_privilege then
            raise warning 'the owner of the schema % has to grant its usage to %', current_schema(), role;
        end;
        execute format(
            'grant select on outbox_message, outbox_history, outbox_attempt, destination, worker, operator_action,
                 change, record_duplicate, duplicate_rules, duplicate_check,
                 outbox, outbox_attempts, outbox_backlog, outbox_stuck, records, records_waiting, record_timeline to %I', role);
        execute format('grant execute on function outbox_explain(bigint), outbox_hindrances(text, bigint), outbox_explain_lease(outbox_message),
                            outbox_explain_finished(bigint), outbox_pressure(bigint) to %I', role);
    end loop;

    foreach role in array array['crvs_outbox_operator', 'crvs_outbox_app'] loop
        continue when role = any (missing);
        execute format('grant execute on function outbox_retry(bigint, text),
                            outbox_retry_where(text, text, timestamptz, boolean, message_state, integer, text),
                            outbox_cancel(bigint, text), outbox_pause(text, text), outbox_resume(text, text) to %I', role);
    end loop;

    if 'crvs_outbox_app' <> all (missing) then
        grant select, insert on record_version, record_attachment, outbox_history, outbox_attempt, change to crvs_outbox_app;
        grant select, insert, update on record, record_action, destination, record_match, record_duplicate to crvs_outbox_app;
        grant select, update on duplicate_rules, duplicate_check to crvs_outbox_app;
        grant select, insert, update, delete on client_transaction, outbox_message, worker, attachment, attachment_blob, attachment_chunk,
            attachment_upload to crvs_outbox_app;
        grant insert on operator_action to crvs_outbox_app;
        grant usage, select on sequence outbox_lease, outbox_position to crvs_outbox_app;
        grant execute on function outbox_partitions_ensure(integer), outbox_partitions_drop(integer), change_partitions_drop(integer) to crvs_outbox_app;
        if to_regclass('refinery_schema_history') is not null then
            grant select on refinery_schema_history to crvs_outbox_app;
        end if;
    end if;

    if cardinality(missing) > 0 then
        raise warning 'these roles are missing: %. Let somebody who may create roles run "create role … nologin", then run "select outbox_grant()"',
            array_to_string(missing, ', ');
    end if;
end
$$;

-- Replacing a function keeps who may run it, but not its settings.
do $$
begin
    execute format('alter function outbox_grant() set search_path to %I, pg_temp', current_schema());
end
$$;
select outbox_grant();
