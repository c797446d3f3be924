-- What earlier rounds left.
truncate record, record_version, record_action, record_match, client_transaction, outbox_message, outbox_history,
         outbox_attempt, outbox_claim, change cascade;
