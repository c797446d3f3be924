//! The table `change`: hints that something moved. What finishes a message writes it too (`outbox::complete`).
//!
//! What a snapshot does not show is found without reading what it shows: database transactions that were open in it, one
//! by one, and those that began later, from its end on. So one that stays open for an hour makes no page longer.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::records::changes::{Moment, Rest, Snapshot};

/// Says that the transactions on a record moved, each to who sent it: the latest hundred, which is all of them unless
/// somebody corrects a record for ever.
pub(crate) async fn append_of_record(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into change (principal_id, record_id, action_id)
        select distinct on (a.transaction_id)
               coalesce((select t.principal_id from client_transaction t where t.transaction_id = a.transaction_id), a.created_by),
               a.record_id, a.id
        from (
            select transaction_id, created_by, record_id, id, ordinal from record_action
            where record_id = $1 and requested_action_id is null
            order by ordinal desc
            limit 100
        ) a
        order by a.transaction_id, a.ordinal desc
        "#,
        record_id
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Now, as a snapshot.
pub(crate) async fn now(conn: &mut PgConnection) -> sqlx::Result<Moment> {
    let row = sqlx::query!(
        r#"select pg_current_snapshot()::text as "snapshot!", extract(epoch from now())::bigint as "at!""#
    )
    .fetch_one(conn)
    .await?;
    moment(&row.snapshot, row.at)
}

fn moment(snapshot: &str, at: i64) -> sqlx::Result<Moment> {
    let snapshot = snapshot.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(Moment { snapshot, at: at.unsigned_abs() })
}

/// What a snapshot does not show: all of it, or the rest of it up to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between<'a> {
    pub since: &'a Snapshot,
    pub rest: Option<&'a Rest>,
}

/// An action that moved.
#[derive(Clone, Debug)]
pub(crate) struct Hint {
    pub xid: u64,
    pub action_id: Uuid,
    pub transaction_id: Option<String>,
}

/// Hints, and the moment of the statement that read them.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    pub now: Moment,
    pub hints: Vec<Hint>,
}

/// A principal's hints, one per action, in the order of database transactions.
pub(crate) async fn page(
    conn: &mut PgConnection,
    principal_id: &str,
    between: Between<'_>,
    limit: i64,
) -> sqlx::Result<Hints> {
    let rest = between.rest;
    let rows = sqlx::query!(
        r#"
        with unseen as (
            select c.xid, c.action_id from change c
            where c.principal_id = $1 and c.xid >= pg_snapshot_xmax($2::text::pg_snapshot)
            union all
            select c.xid, c.action_id from change c
            where c.principal_id = $1 and c.xid = any (array(select pg_snapshot_xip($2::text::pg_snapshot)))
        ), latest as (
            select distinct on (u.action_id) u.xid, u.action_id
            from unseen u
            where pg_visible_in_snapshot(u.xid, coalesce($3::text::pg_snapshot, pg_current_snapshot()))
            order by u.action_id, u.xid desc
        ), page as (
            select l.xid, l.action_id, (select a.transaction_id from record_action a where a.id = l.action_id) as transaction_id
            from latest l
            where $4::text is null or (l.xid, l.action_id) > ($4::text::xid8, $5::uuid)
            order by l.xid, l.action_id
            limit $6
        )
        select pg_current_snapshot()::text as "now!", extract(epoch from now())::bigint as "at!",
               p.xid::text::bigint as "xid?", p.action_id as "action_id?", p.transaction_id as "transaction_id?"
        from (values (true)) as always
        left join page p on true
        order by p.xid, p.action_id
        "#,
        principal_id,
        between.since.to_string(),
        rest.map(|r| r.until.snapshot.to_string()),
        rest.map(|r| r.xid.to_string()),
        rest.map(|r| r.action_id),
        limit,
    )
    .fetch_all(conn)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let now = moment(&first.now, first.at)?;
    let hints = rows.into_iter().filter_map(|r| {
        Some(Hint { xid: r.xid?.unsigned_abs(), action_id: r.action_id?, transaction_id: r.transaction_id })
    });
    Ok(Hints { now, hints: hints.collect() })
}

/// What moved for anybody.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// The moment of the statement.
    pub now: Moment,
    /// Principals and their transactions.
    pub transactions: Vec<(String, String)>,
    /// There were so many hints that some were left out.
    pub cut: bool,
}

/// What moved for anybody, from at most about so many hints.
pub(crate) async fn tail(conn: &mut PgConnection, since: &Snapshot, limit: i64) -> sqlx::Result<Tail> {
    // Each branch is ordered and cut, so that the index is used whatever the statistics of a new day's partition say: a plan
    // that was made while that was empty is kept past midnight.
    let rows = sqlx::query!(
        r#"
        with unseen as (
            (select c.xid, c.principal_id, c.action_id from change c
             where c.xid >= pg_snapshot_xmax($1::text::pg_snapshot)
             order by c.xid limit $2)
            union all
            (select c.xid, c.principal_id, c.action_id from change c
             where c.xid = any (array(select pg_snapshot_xip($1::text::pg_snapshot)))
             order by c.xid limit $2)
        ), moved as (
            select u.principal_id, (select a.transaction_id from record_action a where a.id = u.action_id) as transaction_id
            from (select distinct u.principal_id, u.action_id from unseen u
                  where pg_visible_in_snapshot(u.xid, pg_current_snapshot())) u
        )
        select pg_current_snapshot()::text as "now!", extract(epoch from now())::bigint as "at!",
               (select count(*) from unseen) >= $2 as "cut!", m.principal_id as "principal_id?", m.transaction_id as "transaction_id?"
        from (values (true)) as always
        left join moved m on true
        "#,
        since.to_string(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let now = moment(&first.now, first.at)?;
    let cut = first.cut;
    let transactions = rows.into_iter().filter_map(|r| Some((r.principal_id?, r.transaction_id?))).collect();
    Ok(Tail { now, transactions, cut })
}
