//! The table `attachment_upload`, and what becomes of attachments that were uploaded and never referred to.

use sqlx::PgConnection;
use uuid::Uuid;

/// Makes uploaded bytes an attachment, unless there is one of this digest already, and remembers who sent them. Whether
/// it is this blob that is kept.
pub(crate) async fn finish(
    conn: &mut PgConnection,
    (sha256, media_type, size): (&[u8], &str, i64),
    blob_id: Uuid,
    principal_id: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with kept as (
            insert into attachment (sha256, media_type, size, blob_id) values ($1, $2, $3, $4)
            on conflict (sha256) do nothing returning sha256),
        remembered as (
            insert into attachment_upload (sha256, principal_id) values ($1, $5)
            on conflict (sha256, principal_id) do update set uploaded_at = now())
        select exists (select from kept) as "kept!"
        "#,
        sha256,
        media_type,
        size,
        blob_id,
        principal_id
    )
    .fetch_one(conn)
    .await
}

/// Remembers that somebody has the bytes of an attachment. False if there is none.
pub(crate) async fn remember(conn: &mut PgConnection, sha256: &[u8], principal_id: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        insert into attachment_upload (sha256, principal_id)
        select sha256, $2 from attachment where sha256 = $1 for key share
        on conflict (sha256, principal_id) do update set uploaded_at = now()
        "#,
        sha256,
        principal_id
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Which of these digests somebody uploaded.
pub(crate) async fn uploaded(
    conn: &mut PgConnection,
    digests: &[&[u8]],
    principal_id: &str,
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "select sha256 from attachment_upload where sha256 = any($1) and principal_id = $2",
        digests as &[&[u8]],
        principal_id
    )
    .fetch_all(conn)
    .await
}

/// Locks attachments that no record has and that nobody uploaded for so many hours. Those that a submission is about to
/// refer to are locked by it, and passed over.
pub(crate) async fn lock_unreferenced(conn: &mut PgConnection, hours: i32, limit: i64) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"
        select a.sha256 from attachment a
        where a.created_at < now() - make_interval(hours => $1)
          and not exists (select from record_attachment r where r.sha256 = a.sha256)
          and not exists (
              select from attachment_upload u
              where u.sha256 = a.sha256 and u.uploaded_at >= now() - make_interval(hours => $1))
        order by a.created_at
        limit $2
        for update of a skip locked
        "#,
        hours,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Deletes locked attachments if, now that they are locked, no record has them still; returns their blobs.
pub(crate) async fn delete_unreferenced(
    conn: &mut PgConnection,
    digests: &[Vec<u8>],
    hours: i32,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        delete from attachment a
        where a.sha256 = any($1)
          and not exists (select from record_attachment r where r.sha256 = a.sha256)
          and not exists (
              select from attachment_upload u
              where u.sha256 = a.sha256 and u.uploaded_at >= now() - make_interval(hours => $2))
        returning a.blob_id
        "#,
        digests,
        hours
    )
    .fetch_all(conn)
    .await
}
