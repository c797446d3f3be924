//! The daily partitions of `outbox_history`, `outbox_attempt` and `change`.

use sqlx::PgConnection;

/// Makes the partitions of the coming week; returns how many were missing.
pub async fn ensure(conn: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select outbox_partitions_ensure() as "made!""#).fetch_one(conn).await
}

/// Drops the partitions that ended more than so many days ago; returns how many.
pub async fn drop_older(conn: &mut PgConnection, keep_days: u16) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select outbox_partitions_drop($1) as "dropped!""#, i32::from(keep_days))
        .fetch_one(conn)
        .await
}

/// Drops the partitions of `change` that ended more than so many days, and one more, ago; returns how many.
pub async fn drop_older_changes(conn: &mut PgConnection, keep_days: u16) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"select change_partitions_drop($1) as "dropped!""#, i32::from(keep_days))
        .fetch_one(conn)
        .await
}
