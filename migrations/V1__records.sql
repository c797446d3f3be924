-- The domain: transactions of clients, records, their versions, actions and attachments.
-- Names are unqualified: the tables live in the first schema of the connection's search_path.

create type record_status as enum (
    'in_progress', 'declared', 'validated', 'waiting_validation', 'registered', 'rejected', 'archived'
);
comment on type record_status is
    'What a record is: in_progress (incomplete), declared, validated, waiting_validation (the country''s verdict is outstanding), registered, rejected, archived.';

create type record_action_kind as enum (
    'notify', 'declare', 'validate', 'register', 'reject', 'mark_not_duplicate', 'archive'
);
comment on type record_action_kind is
    'What can be done to a record. A confirmation by the country is the action register with status accepted.';

create type record_action_status as enum ('requested', 'accepted', 'rejected');
comment on type record_action_status is
    'requested: a verdict is outstanding; accepted or rejected: it was given, or the action needed none.';

create table client_transaction (
    transaction_id text collate "C" not null,
    principal_id   text not null,
    fingerprint    bytea not null,
    reply_status   smallint,
    reply_body     text,
    record_id      uuid,
    action_id      uuid,
    created_at     timestamptz not null default now(),
    constraint client_transaction_pkey primary key (transaction_id),
    constraint client_transaction_id_form check (transaction_id ~ '^(verdict/)?[A-Za-z0-9._:-]{8,128}$'),
    constraint client_transaction_fingerprint_is_sha256 check (length(fingerprint) = 32),
    constraint client_transaction_keeps_success_only check (reply_status between 200 and 299),
    constraint client_transaction_reply_whole check ((reply_status is null) = (reply_body is null))
) with (fillfactor = 50);
comment on table client_transaction is
    'One row per intention of a client, for ever: the key of every dedupe (P2). Written first in the transaction that does the work, so a concurrent twin waits on its primary key and then replays the reply. fillfactor 50: the reply is filled in by a second write of the same transaction, in place.';
comment on column client_transaction.transaction_id is
    'Chosen by the client, 8 to 128 of A-Z a-z 0-9 . _ : - and unique across users. The service''s own key of a verdict is verdict/ and the transaction id of the registration it decides.';
comment on column client_transaction.principal_id is 'Who sent it (the token''s subject, never the token).';
comment on column client_transaction.fingerprint is 'SHA-256 of the canonical request: the same id with another fingerprint is refused (422).';
comment on column client_transaction.reply_status is 'HTTP status of the reply; only 2xx is kept. Null only inside the transaction that writes the row.';
comment on column client_transaction.reply_body is 'The reply, replayed byte for byte. Holds ids and states, no declaration.';
comment on column client_transaction.record_id is 'The record that the transaction created or acted on.';
comment on column client_transaction.action_id is 'The last action that the transaction appended.';
comment on column client_transaction.created_at is 'When it was accepted (start of its database transaction).';
comment on index client_transaction_pkey is 'Makes the transaction id unique across users and instances.';

create table record (
    id                  uuid not null,
    event               text not null,
    status              record_status not null,
    tracking_id         text not null,
    registration_number text,
    version             integer not null,
    awaiting_action_id  uuid,
    held_action         record_action_kind,
    created_by          text not null,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    constraint record_pkey primary key (id),
    constraint record_tracking_id_key unique (tracking_id),
    constraint record_registration_number_key unique (registration_number),
    constraint record_event_form check (event ~ '^[a-z][a-z0-9-]{1,30}$'),
    constraint record_tracking_id_form check (tracking_id ~ '^[A-Z][A-Z0-9]{6}$'),
    constraint record_version_positive check (version >= 1),
    constraint record_registered_has_number check ((status = 'registered') = (registration_number is not null)),
    constraint record_waiting_awaits_action check ((status = 'waiting_validation') = (awaiting_action_id is not null)),
    constraint record_held_while_declared check (held_action is null or status = 'declared')
) with (fillfactor = 80);
comment on table record is
    'The registration of one event. Its content is in record_version, its past in record_action. fillfactor 80: a record''s status changes a few times in its life.';
comment on column record.id is 'UUIDv7; also the Composition id of a FHIR declaration.';
comment on column record.event is 'birth, death, marriage, or another configured event.';
comment on column record.status is 'Where the record stands; moved only by the service''s transition table.';
comment on column record.tracking_id is 'Seven characters that a citizen can read over the phone: the event''s letter and six without look-alikes.';
comment on column record.registration_number is 'Given by the country when it confirms; unique, and never changed afterwards.';
comment on column record.version is 'The current record_version.';
comment on column record.awaiting_action_id is 'The requested registration whose verdict is outstanding; null in any other status. A verdict on another action is refused as superseded.';
comment on column record.held_action is 'The action that was asked for and is held back until somebody says that the record is no duplicate.';
comment on column record.created_by is 'Who submitted it: may read it.';
comment on column record.created_at is 'When it was accepted.';
comment on column record.updated_at is 'When it last changed.';
comment on index record_pkey is 'Finds a record by its id.';
comment on index record_tracking_id_key is 'A tracking id names one record.';
comment on index record_registration_number_key is 'A registration number is given once.';

create table record_action (
    id                  uuid not null,
    record_id           uuid not null,
    ordinal             bigint generated always as identity,
    transaction_id      text collate "C" not null,
    action              record_action_kind not null,
    status              record_action_status not null,
    requested_action_id uuid,
    version             integer not null,
    record_status       record_status not null,
    registration_number text,
    identifiers         json,
    reason              text,
    comment             text,
    created_by          text not null,
    scopes              text[] not null,
    created_at          timestamptz not null default now(),
    callback_due_at     timestamptz,
    redeliveries        integer not null default 0,
    constraint record_action_pkey primary key (id),
    constraint record_action_record_fk foreign key (record_id) references record (id),
    constraint record_action_once unique (transaction_id, action, status),
    constraint record_action_verdict_names_request check (
        (requested_action_id is not null) = (action = 'register' and status <> 'requested')),
    constraint record_action_acceptance_has_number check (action <> 'register' or status <> 'accepted' or registration_number is not null),
    constraint record_action_number_on_acceptance check ((registration_number is null and identifiers is null) or (action = 'register' and status = 'accepted')),
    constraint record_action_rejection_has_reason check (reason is not null or (action <> 'reject' and status <> 'rejected')),
    constraint record_action_callback_only_requested check (callback_due_at is null or status = 'requested')
);
create unique index record_action_verdict_once on record_action (requested_action_id)
    where status in ('accepted', 'rejected');
create index record_action_of_record on record_action (record_id, ordinal);
create index record_action_callback_due on record_action (callback_due_at) where callback_due_at is not null;
comment on table record_action is
    'What was done to a record, in order; append-only but for callback_due_at and redeliveries. Reason and comment are personal data.';
comment on column record_action.id is 'UUIDv7; the actionId in tokens for the country''s server.';
comment on column record_action.record_id is 'The record.';
comment on column record_action.ordinal is 'Order of a record''s actions (writers hold the record''s row lock).';
comment on column record_action.transaction_id is 'The client transaction that caused it; a verdict carries that of the action it decides.';
comment on column record_action.action is 'What was done.';
comment on column record_action.status is 'requested, accepted or rejected.';
comment on column record_action.requested_action_id is 'On a verdict: the requested action that it decides.';
comment on column record_action.version is 'The record version as of this action: what its messages are rendered from.';
comment on column record_action.record_status is 'The record''s status after this action.';
comment on column record_action.registration_number is 'The number that the country gave (accepted register only).';
comment on column record_action.identifiers is 'Identifiers that the country gave with the number: an array of type and value. Personal data.';
comment on column record_action.reason is 'Why it was rejected. Personal data.';
comment on column record_action.comment is 'Free text of who acted. Personal data.';
comment on column record_action.created_by is 'Who acted: a principal''s id, or destination/ and the name of the peer that answered.';
comment on column record_action.scopes is 'The scopes that were granted to who acted, at that time; never a token (P7).';
comment on column record_action.created_at is 'When.';
comment on column record_action.callback_due_at is 'Until when the country promised (by answering "later") to call back; past it the message is sent again and the record shows as overdue. Null when no callback is awaited.';
comment on column record_action.redeliveries is 'How many times the registration was sent again because no callback came.';
comment on index record_action_pkey is 'Finds an action by its id.';
comment on index record_action_once is 'An action is done once per transaction, whatever is repeated (P2).';
comment on index record_action_verdict_once is 'First verdict wins: a requested action is decided once.';
comment on index record_action_of_record is 'A record''s history in order.';
comment on index record_action_callback_due is 'The overdue check reads only what is due.';

create table record_version (
    record_id   uuid not null,
    version     integer not null,
    declaration json not null,
    created_by  text not null,
    created_at  timestamptz not null default now(),
    constraint record_version_pkey primary key (record_id, version),
    constraint record_version_record_fk foreign key (record_id) references record (id),
    constraint record_version_positive check (version >= 1)
);
comment on table record_version is 'The declarations of a record, one row per version, never changed. Personal data.';
comment on column record_version.record_id is 'The record.';
comment on column record_version.version is 'From 1 up, without gaps.';
comment on column record_version.declaration is
    'The declaration as accepted: json, not jsonb, so that the text that was sent is kept (key order, numbers). Personal data.';
comment on column record_version.created_by is 'Who declared this version.';
comment on column record_version.created_at is 'When.';
comment on index record_version_pkey is 'Finds a version of a record.';

create table attachment (
    sha256     bytea not null,
    media_type text not null,
    size       bigint not null,
    created_at timestamptz not null default now(),
    constraint attachment_pkey primary key (sha256),
    constraint attachment_sha256_length check (length(sha256) = 32),
    constraint attachment_not_empty check (size > 0)
);
comment on table attachment is 'A scanned document, stored once per digest; its bytes are in attachment_chunk.';
comment on column attachment.sha256 is 'SHA-256 of the bytes.';
comment on column attachment.media_type is 'What the bytes are (checked against them when accepted).';
comment on column attachment.size is 'Bytes.';
comment on column attachment.created_at is 'When it was first stored.';
comment on index attachment_pkey is 'One row per digest.';

create table attachment_chunk (
    sha256  bytea not null,
    ordinal integer not null,
    data    bytea not null,
    constraint attachment_chunk_pkey primary key (sha256, ordinal),
    constraint attachment_chunk_attachment_fk foreign key (sha256) references attachment (sha256),
    constraint attachment_chunk_size check (length(data) between 1 and 262144)
);
alter table attachment_chunk alter column data set storage external;
comment on table attachment_chunk is
    'The bytes of attachments in pieces of 256 KiB, so that they stream. Stored uncompressed: images are compressed already. Personal data.';
comment on column attachment_chunk.sha256 is 'The attachment.';
comment on column attachment_chunk.ordinal is 'Order of the pieces, from 0.';
comment on column attachment_chunk.data is 'Up to 262144 bytes. Personal data.';
comment on index attachment_chunk_pkey is 'Reads an attachment''s pieces in order.';

create table record_attachment (
    record_id uuid not null,
    version   integer not null,
    ordinal   integer not null,
    sha256    bytea not null,
    kind      text,
    constraint record_attachment_pkey primary key (record_id, version, ordinal),
    constraint record_attachment_record_fk foreign key (record_id) references record (id),
    constraint record_attachment_attachment_fk foreign key (sha256) references attachment (sha256)
);
create index record_attachment_digest on record_attachment (sha256);
comment on table record_attachment is 'Which attachments a version of a record came with.';
comment on column record_attachment.record_id is 'The record.';
comment on column record_attachment.version is 'The record version.';
comment on column record_attachment.ordinal is 'Order in the submission, from 0: those of the bundle first.';
comment on column record_attachment.sha256 is 'The attachment.';
comment on column record_attachment.kind is 'What kind of document the client said it is (for example PROOF_OF_BIRTH).';
comment on index record_attachment_pkey is 'A version''s attachments in order.';
comment on index record_attachment_digest is 'Which records use an attachment: who may read it.';
