//! The tables `record_duplicate` and `duplicate_check`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::records::duplicates::Resolution;

/// Two records that may be of one event, the smaller id first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub a: Uuid,
    pub b: Uuid,
    pub score: f64,
}

/// Opens pairs, or opens them again, but none that somebody said to be no duplicate. Returns those that are open now.
pub(crate) async fn open(conn: &mut PgConnection, pairs: &[Pair]) -> sqlx::Result<Vec<Pair>> {
    let a: Vec<Uuid> = pairs.iter().map(|p| p.a).collect();
    let b: Vec<Uuid> = pairs.iter().map(|p| p.b).collect();
    let scores: Vec<f64> = pairs.iter().map(|p| p.score).collect();
    sqlx::query_as!(
        Pair,
        r#"
        insert into record_duplicate as known (record_a, record_b, score)
        select * from unnest($1::uuid[], $2::uuid[], $3::double precision[]) as p (a, b, score)
        order by p.a, p.b
        on conflict (record_a, record_b) do update
        set score = excluded.score, resolution = null, resolved_at = null, resolved_by = null,
            found_at = case when known.resolution is null then known.found_at else excluded.found_at end
        where known.resolution is distinct from 'not_duplicate'
        returning record_a as a, record_b as b, score
        "#,
        &a,
        &b,
        &scores,
    )
    .fetch_all(conn)
    .await
}

/// Resolves the open pairs of a record, but those with `kept`. Locked in the order of the pairs, as everywhere.
pub(crate) async fn resolve(
    conn: &mut PgConnection,
    record_id: Uuid,
    kept: &[Uuid],
    resolution: Resolution,
    by: &str,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        with held as materialized (
            select record_a, record_b from record_duplicate
            where (record_a = $1 or record_b = $1) and resolution is null
              and record_a <> all ($2) and record_b <> all ($2)
            order by record_a, record_b
            for update
        )
        update record_duplicate d
        set resolution = $3, resolved_at = now(), resolved_by = $4
        from held
        where d.record_a = held.record_a and d.record_b = held.record_b
        "#,
        record_id,
        kept,
        resolution as Resolution,
        by,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A pair from the side of one of its records.
pub(crate) struct Seen {
    pub record_id: Uuid,
    pub other: Uuid,
    pub tracking_id: String,
    pub score: f64,
    pub found_at: OffsetDateTime,
    pub resolution: Option<Resolution>,
    pub resolved_at: Option<OffsetDateTime>,
}

/// The pairs of records, open and (if `all`) resolved, the highest score first.
pub(crate) async fn of_records(conn: &mut PgConnection, records: &[Uuid], all: bool) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as!(
        Seen,
        r#"
        select p.record_id as "record_id!", p.other as "other!", r.tracking_id, p.score as "score!", p.found_at as "found_at!",
               p.resolution as "resolution: Resolution", p.resolved_at
        from (
            select record_a as record_id, record_b as other, score, found_at, resolution, resolved_at
            from record_duplicate where record_a = any ($1)
            union all
            select record_b, record_a, score, found_at, resolution, resolved_at
            from record_duplicate where record_b = any ($1)
        ) p
        join record r on r.id = p.other
        where $2 or p.resolution is null
        order by p.record_id, p.score desc, p.other
        "#,
        records,
        all,
    )
    .fetch_all(conn)
    .await
}

/// Those of the pairs that are neither open nor said to be no duplicate.
pub(crate) async fn unknown(conn: &mut PgConnection, pairs: Vec<Pair>) -> sqlx::Result<Vec<Pair>> {
    let a: Vec<Uuid> = pairs.iter().map(|p| p.a).collect();
    let b: Vec<Uuid> = pairs.iter().map(|p| p.b).collect();
    let known = sqlx::query!(
        r#"
        select d.record_a, d.record_b
        from unnest($1::uuid[], $2::uuid[]) as p (a, b)
        join record_duplicate d on d.record_a = p.a and d.record_b = p.b
        where d.resolution is null or d.resolution = 'not_duplicate'
        "#,
        &a,
        &b,
    )
    .fetch_all(conn)
    .await?;
    let is_known = |p: &Pair| known.iter().any(|k| (k.record_a, k.record_b) == (p.a, p.b));
    Ok(pairs.into_iter().filter(|p| !is_known(p)).collect())
}

/// Begins or goes on with a turn of the periodic check: locks its row until the end of the transaction. `false` if
/// another instance has it.
///
/// Snapshots of another cluster (a dump that was restored) mean nothing here: the check begins anew.
pub(crate) async fn begin_turn(conn: &mut PgConnection) -> sqlx::Result<bool> {
    let turn = sqlx::query!(
        r#"
        update duplicate_check c
        set since = case when foreign_ then pg_current_snapshot() else since end,
            until = case when foreign_ or until is null then pg_current_snapshot() else until end,
            past = case when foreign_ then null else past end, past_record = case when foreign_ then null else past_record end
        from (select pg_snapshot_xmax(coalesce(until, since)) > pg_snapshot_xmax(pg_current_snapshot()) as foreign_
              from duplicate_check for update skip locked) locked
        "#
    )
    .execute(conn)
    .await?;
    Ok(turn.rows_affected() > 0)
}

/// A record, and the database transaction that changed what it is compared by.
pub(crate) struct Changed {
    pub record_id: Uuid,
    pub by: String,
}

/// The next records of the turn: what was committed after `since` and before `until`, in whatever order.
pub(crate) async fn page(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Changed>> {
    sqlx::query_as!(
        Changed,
        r#"
        select m.record_id, m.changed::text as "by!"
        from record_match m, duplicate_check c
        where m.counts and m.changed >= pg_snapshot_xmin(c.since)
          and not pg_visible_in_snapshot(m.changed, c.since) and pg_visible_in_snapshot(m.changed, c.until)
          and (c.past is null or (m.changed, m.record_id) > (c.past, c.past_record))
        order by m.changed, m.record_id
        limit $1
        "#,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Writes down that the turn has come to this record.
pub(crate) async fn pass(conn: &mut PgConnection, last: &Changed) -> sqlx::Result<()> {
    sqlx::query!("update duplicate_check set past = $1::text::xid8, past_record = $2", last.by, last.record_id)
        .execute(conn)
        .await
        .map(drop)
}

/// Ends the turn: all up to its snapshot is checked.
pub(crate) async fn end_turn(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "update duplicate_check set since = coalesce(until, since), until = null, past = null, past_record = null"
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Takes everything until now as checked.
pub(crate) async fn skip_to_now(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "update duplicate_check set since = pg_current_snapshot(), until = null, past = null, past_record = null"
    )
    .execute(conn)
    .await
    .map(drop)
}
