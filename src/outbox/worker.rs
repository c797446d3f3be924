//! The table `worker`: who holds leases, and whether it lives.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

/// Says that the worker lives; makes its row at the first beat.
pub async fn beat(conn: &mut PgConnection, id: Uuid, name: &str, interval: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into worker (id, name, interval) values ($1, $2, make_interval(secs => $3))
        on conflict (id) do update set heartbeat_at = now()
        "#,
        id,
        name,
        interval.as_secs_f64(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Takes the worker out: from now on its leases, if it left any, are lost at once.
pub async fn retire(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from worker where id = $1", id).execute(conn).await.map(drop)
}

/// Takes out workers that have been silent for a day; returns how many.
pub async fn forget_silent(conn: &mut PgConnection) -> sqlx::Result<u64> {
    sqlx::query!("delete from worker where heartbeat_at < now() - interval '1 day'")
        .execute(conn)
        .await
        .map(|done| done.rows_affected())
}
