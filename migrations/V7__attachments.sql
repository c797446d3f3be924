-- Attachments that are uploaded by themselves: bytes come first, the header makes them visible, a record refers to them later.

create table attachment_blob (
    id         uuid not null default gen_random_uuid(),
    place      text not null default 'postgres',
    path       text,
    touched_at timestamptz not null default now(),
    constraint attachment_blob_pkey primary key (id),
    constraint attachment_blob_path_elsewhere check ((place = 'postgres') = (path is null))
) with (fillfactor = 50);
create index attachment_blob_touched on attachment_blob (touched_at);
comment on table attachment_blob is
    'Bytes of an attachment, whole or still arriving. Without an attachment that names it, it is what is left of a broken upload, a copy that came second, or collected, and goes attachments.unreferenced_hours after it was touched. fillfactor 50: it is touched with every chunk.';
comment on column attachment_blob.id is 'Its id.';
comment on column attachment_blob.place is 'Where the bytes are: postgres (attachment_chunk), or the URL of an object store, as attachments.store said when they were written.';
comment on column attachment_blob.path is 'The object''s path in that store.';
comment on column attachment_blob.touched_at is 'When bytes were last written; -infinity once nothing refers to it any more.';
comment on index attachment_blob_pkey is 'Finds the bytes of an attachment.';
comment on index attachment_blob_touched is 'Housekeeping reads only what is old.';

-- What is stored already has one blob per digest.
alter table attachment add column blob_id uuid not null default gen_random_uuid();
insert into attachment_blob (id) select blob_id from attachment;
alter table attachment
    alter column blob_id drop default,
    add constraint attachment_blob_once unique (blob_id),
    add constraint attachment_blob_fk foreign key (blob_id) references attachment_blob (id);
comment on column attachment.blob_id is 'Its bytes.';
comment on index attachment_blob_once is 'Bytes belong to one attachment; housekeeping looks for those that belong to none.';
comment on table attachment is
    'A scanned document, stored once per digest. It is written once all its bytes are: whoever sees this row can read them.';

alter table attachment_chunk drop constraint attachment_chunk_attachment_fk;
alter table attachment_chunk drop constraint attachment_chunk_pkey;
alter table attachment_chunk add column blob_id uuid;
update attachment_chunk c set blob_id = a.blob_id from attachment a where a.sha256 = c.sha256;
alter table attachment_chunk drop column sha256;
alter table attachment_chunk
    alter column blob_id set not null,
    add constraint attachment_chunk_pkey primary key (blob_id, ordinal),
    add constraint attachment_chunk_blob_fk foreign key (blob_id) references attachment_blob (id) on delete cascade;
comment on column attachment_chunk.blob_id is 'The bytes that it is a piece of.';
comment on column attachment_chunk.data is 'Up to 262144 bytes; exactly so many but for the last. Personal data.';
comment on index attachment_chunk_pkey is 'Reads a blob''s pieces in order.';

create table attachment_upload (
    sha256       bytea not null,
    principal_id text collate "C" not null,
    uploaded_at  timestamptz not null default now(),
    constraint attachment_upload_pkey primary key (sha256, principal_id),
    constraint attachment_upload_attachment_fk foreign key (sha256) references attachment (sha256) on delete cascade
);
comment on table attachment_upload is
    'Who has shown that they have the bytes, by sending all of them. To know a digest is not to have the bytes: only who uploaded them, or may read a record that has them, may refer to them.';
comment on column attachment_upload.sha256 is 'The attachment.';
comment on column attachment_upload.principal_id is 'Who sent it.';
comment on column attachment_upload.uploaded_at is 'When, the last time: an attachment that no record has is kept attachments.unreferenced_hours from then.';
comment on index attachment_upload_pkey is 'Whether somebody uploaded an attachment, and when anybody last did.';

create index attachment_created on attachment (created_at);
comment on index attachment_created is 'Housekeeping looks among the old ones for those that no record has.';
