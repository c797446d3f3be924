//! The SQL of the sandbox: an effect and its receipt are one statement, so a repetition is suppressed by the primary key.

use sqlx::{Executor as _, PgPool};
use uuid::Uuid;

/// Makes the sandbox's schema; idempotent, and safe for many at once.
pub(super) async fn prepare(db: &PgPool) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtext('crvs-outbox sandbox'))").fetch_one(&mut *tx).await?;
    tx.execute(sqlx::raw_sql(include_str!("schema.sql"))).await?;
    tx.commit().await
}

/// Lets an effect happen, unless it has; true if it happened now.
pub(super) async fn happen(
    db: &PgPool,
    destination: &str,
    transaction_id: &str,
    kind: &str,
    record_id: Option<Uuid>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with happened as (
            insert into sandbox.effect (destination, transaction_id, kind, record_id) values ($1, $2, $3, $4)
            on conflict (destination, transaction_id) do nothing
            returning 1
        ), noted as (
            insert into sandbox.receipt (destination, transaction_id, outcome)
            select $1, $2, case when exists (select from happened) then 'effect' else 'suppressed' end
        )
        select exists (select from happened) as "now!"
        "#,
        destination,
        transaction_id,
        kind,
        record_id,
    )
    .fetch_one(db)
    .await
}

/// Notes a request that was made to fail before its effect.
pub(super) async fn note_failure(db: &PgPool, destination: &str, transaction_id: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into sandbox.receipt (destination, transaction_id, outcome) values ($1, $2, 'failed')",
        destination,
        transaction_id
    )
    .execute(db)
    .await
    .map(drop)
}

/// How often a request of this id was made to fail.
pub(super) async fn failures(db: &PgPool, destination: &str, transaction_id: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from sandbox.receipt where destination = $1 and transaction_id = $2 and outcome = 'failed'"#,
        destination,
        transaction_id
    )
    .fetch_one(db)
    .await
}

/// An effect in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effect {
    /// Which receiver.
    pub destination: String,
    /// The id it came with.
    pub transaction_id: String,
}

/// The effects whose transaction id has this in it, and the requests that came for them.
pub async fn effects_ending_in(db: &PgPool, suffix: &str) -> sqlx::Result<(Vec<Effect>, i64)> {
    let effects = sqlx::query_as!(
        Effect,
        "select destination, transaction_id from sandbox.effect where transaction_id like '%' || $1 || '%'",
        suffix
    )
    .fetch_all(db)
    .await?;
    let receipts = sqlx::query_scalar!(
        r#"select count(*) as "n!" from sandbox.receipt where transaction_id like '%' || $1 || '%'"#,
        suffix
    )
    .fetch_one(db)
    .await?;
    Ok((effects, receipts))
}
