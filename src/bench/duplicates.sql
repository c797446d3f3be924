-- {rows} births over {days} days up to the end of 2025, in about the order of their days, as they come in: names of a few
-- thousand words, some of them common. The bits are those of src/records/duplicates/trigrams.rs in number, not in kind.
create temporary table word as
select w.n, w.text, bit_or(set_bit(repeat('0', 256)::bit(256), get_byte(decode(md5(substr(w.framed, at, 3)), 'hex'), 0), 1)) as bits
from (
    select n, text, '  ' || text || ' ' as framed
    from (
        select n, (
            select string_agg(s, '' order by md5(s || n || 'o'))
            from (
                select c || v as s
                from unnest(array['b','ch','d','f','g','k','l','m','n','p','r','s','t','w','z','th','mw','ny','j','h']) c,
                     unnest(array['a','e','i','o','u']) v
                where n = n
                order by md5(c || v || n)
                limit 2 + n % 3
            ) x
        ) as text
        from generate_series(0, 4999) n
    ) y
) w, generate_series(1, 22) at
where at <= length(w.framed) - 2
group by w.n, w.text;
create unique index on word (n);

create temporary table made as
select gen_random_uuid() as id, n, date '2025-12-31' - ({days}::float8 * (1 - n::float8 / {rows}))::integer as day,
       (2000 * power(random(), 2.5))::integer % 2000 as a, (5000 * power(random(), 2.5))::integer % 5000 as b,
       (2000 * power(random(), 2.5))::integer % 2000 as c
from generate_series(1, {rows}) n;

insert into record (id, event, status, tracking_id, version, created_by)
select id, 'birth', 'declared', 'B' || upper(lpad(to_hex(n), 6, '0')), 1, 'bench' from made order by n;

insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
select m.id, 'birth', m.day, g.bits | f.bits, o.bits | f.bits, array['nationalid:' || (1000000000 + m.n * 7919::bigint)],
       g.text || ' ' || f.text || ' ' || o.text || ' ' || f.text, '{}'
from made m join word g on g.n = m.a join word f on f.n = m.b join word o on o.n = m.c
order by m.n + 40 * random();
