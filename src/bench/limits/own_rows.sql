-- A row of the business and its job, statement by statement in one transaction.
begin;
insert into business (payload) values (:payload::text::jsonb);
insert into plain (topic, payload) values ('bench', :payload::text::jsonb);
commit;
