-- What a submission of the same rows in plain SQL needs: a number for each, and identifiers that grow with it.
create sequence bench_number;
create function bench_id(prefix text, n bigint) returns uuid language sql immutable as $$
    select (prefix || '-' || lpad(to_hex(n >> 12), 4, '0') || '-7' || lpad(to_hex(n & 4095), 3, '0') || '-8'
        || substr(md5(n::text), 1, 3) || '-' || substr(md5(n::text), 4, 12))::uuid
$$;
-- Seven letters and digits in no order, of which no two numbers have the same.
create function bench_tracking_id(n bigint) returns text language sql immutable as $$
    select 'B' || string_agg(substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ', 1 + (scattered / p.power % 36)::int, 1), '' order by p.power)
    from (select n * 1000003 % 2176782336 as scattered) s,
         unnest(array[1, 36, 1296, 46656, 1679616, 60466176]::bigint[]) as p (power)
$$;
create function bench_trigrams(n bigint) returns integer[] language sql immutable as $$
    select array_agg(hashint4(((n * 7919 + i * 104729) % 4000)::int) order by i) from generate_series(1, 20) i
$$;
create function bench_bits(n bigint) returns bit(256) language sql immutable as $$
    select ('x' || md5(n::text) || md5((n + 1)::text))::bit(256)
$$;
