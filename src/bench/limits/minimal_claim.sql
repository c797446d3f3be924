with ready as materialized (
    select id from plain
    where state = 0 and run_at <= now()
    order by run_at, id
    limit $1
    for update skip locked
)
update plain p set state = 1, attempts = attempts + 1, locked_until = now() + interval '5 minutes'
from ready where p.id = ready.id
returning p.id, p.payload::text
