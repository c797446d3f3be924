with business as (
    insert into business (payload) select payload::jsonb from unnest($1::text[]) payload
)
insert into plain (topic, payload) select 'bench', payload::jsonb from unnest($1::text[]) payload
