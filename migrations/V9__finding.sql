-- Finding records: one index per way that work queues look, each in the order of their pages.
-- What is awaited goes along, so that counting reads nothing but the index.

create index record_queue on record (event, status, created_at, id) include (awaiting_action_id);
comment on index record_queue is
    'Work queues: the records of one event in one status, by age. A query for several reads the head of each and merges them.';

create index record_of_creator on record (created_by, event, status, created_at, id) include (awaiting_action_id);
comment on index record_of_creator is 'The same of one submitter: whoever may read only their own records.';
