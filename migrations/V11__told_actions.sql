-- crvs:no-transaction
-- An action, and what the country says of it, each once. Takes the place of the index of record_action_once in the next
-- migration; built beside running instances.
create unique index concurrently if not exists record_action_once_each on record_action
    (transaction_id, action, status, requested_action_id) nulls not distinct;
