-- OpenCRVS 1.9: its country configs are told of every action, and may amend or refuse it.

alter type destination_format add value 'opencrvs-trigger';
comment on type destination_format is
    'What is sent and what an answer means: cloudevents, or the requests of OpenCRVS''s services. opencrvs-event-registration and opencrvs-trigger may answer with a verdict.';

alter table destination drop constraint destination_effects_known;
alter table destination add constraint destination_effects_known
    check (effects <@ array['search', 'audit', 'metrics', 'notification', 'validation', 'trigger', 'webhook']);
comment on column destination.effects is
    'Which consequences it receives: search, audit, metrics, notification, validation, trigger, webhook.';

-- What the country says of an action that does not wait for it is a row of its own, beside the action's.
alter table record_action drop constraint record_action_once,
    add constraint record_action_once unique using index record_action_once_each;
comment on index record_action_once is
    'An action is done once per transaction, whatever is repeated (P2). What the country says of it: record_action_verdict_once.';
comment on index record_action_verdict_once is 'First verdict wins: an action is accepted or rejected by the country once.';

-- Not valid yet: looking at every row is the next migration's, which lets others read and write meanwhile.
alter table record_action drop constraint record_action_verdict_names_request,
    add constraint record_action_verdict_names_request check (
        case when action = 'register' then (requested_action_id is not null) = (status <> 'requested')
             else status <> 'requested' and (status <> 'rejected' or requested_action_id is not null) end) not valid;
-- Who agrees with a rejection gives no reason of their own.
alter table record_action drop constraint record_action_rejection_has_reason,
    add constraint record_action_rejection_has_reason check (
        reason is not null or (status <> 'rejected' and (action <> 'reject' or requested_action_id is not null))) not valid;
comment on column record_action.requested_action_id is
    'On what the country says: the action that it accepts or rejects.';

alter table record_action add column annotation json;
comment on column record_action.annotation is
    'What the country noted with its acceptance, beside the declaration: a JSON object. Personal data.';
alter table record_action add constraint record_action_annotation_of_verdict
    check (annotation is null or requested_action_id is not null) not valid;
