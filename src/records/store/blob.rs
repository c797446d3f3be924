//! The tables `attachment_blob` and `attachment_chunk`: bytes, whole or still arriving.

use sqlx::PgConnection;
use uuid::Uuid;

/// Bytes per chunk; only the last one of a blob is shorter.
pub const CHUNK: usize = 256 * 1024;

/// The place of bytes that are in `attachment_chunk`.
pub const POSTGRES: &str = "postgres";

/// Where bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its id.
    pub id: Uuid,
    /// `postgres`, or the URL of an object store.
    pub place: String,
    /// The object's path there.
    pub path: Option<String>,
}

/// Bytes are about to come.
pub(crate) async fn begin(conn: &mut PgConnection, blob: &Blob) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into attachment_blob (id, place, path) values ($1, $2, $3)",
        blob.id,
        blob.place,
        blob.path.as_deref()
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Writes a chunk of bytes that are still arriving, and says that they do. False if the blob was collected.
pub(crate) async fn append(conn: &mut PgConnection, id: Uuid, ordinal: i32, data: &[u8]) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        with touched as (update attachment_blob set touched_at = now() where id = $1 returning id)
        insert into attachment_chunk (blob_id, ordinal, data) select id, $2, $3 from touched
        "#,
        id,
        ordinal,
        data
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Says that bytes that are stored elsewhere are still arriving. False if the blob was collected.
pub(crate) async fn touch(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!("update attachment_blob set touched_at = now() where id = $1", id).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}

/// A part of a blob's bytes.
#[derive(Clone, Copy)]
pub(crate) struct NewChunk<'a> {
    pub blob_id: Uuid,
    /// From 0.
    pub ordinal: i32,
    pub data: &'a [u8],
}

/// Inserts chunks, of whatever blobs.
pub(crate) async fn insert_chunks(conn: &mut PgConnection, chunks: &[NewChunk<'_>]) -> sqlx::Result<()> {
    let blobs: Vec<Uuid> = chunks.iter().map(|c| c.blob_id).collect();
    let ordinals: Vec<i32> = chunks.iter().map(|c| c.ordinal).collect();
    let data: Vec<&[u8]> = chunks.iter().map(|c| c.data).collect();
    sqlx::query!(
        "insert into attachment_chunk (blob_id, ordinal, data) select * from unnest($1::uuid[], $2::int[], $3::bytea[])",
        &blobs,
        &ordinals,
        &data as &[&[u8]],
    )
    .execute(conn)
    .await
    .map(drop)
}

/// One chunk.
pub(crate) async fn chunk(conn: &mut PgConnection, id: Uuid, ordinal: i32) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!("select data from attachment_chunk where blob_id = $1 and ordinal = $2", id, ordinal)
        .fetch_optional(conn)
        .await
}

/// Says of blobs that they may go at once.
pub(crate) async fn abandon(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("update attachment_blob set touched_at = '-infinity' where id = any($1)", ids)
        .execute(conn)
        .await
        .map(drop)
}

/// Blobs that belong to no attachment and were not touched for so many hours.
pub(crate) async fn orphans(conn: &mut PgConnection, hours: i32, limit: i64) -> sqlx::Result<Vec<Blob>> {
    sqlx::query_as!(
        Blob,
        r#"
        select b.id, b.place, b.path from attachment_blob b
        where b.touched_at < now() - make_interval(hours => $1)
          and not exists (select from attachment a where a.blob_id = b.id)
        order by b.touched_at
        limit $2
        "#,
        hours,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Deletes a blob that belongs to no attachment, with its chunks; returns how many there were.
pub(crate) async fn delete(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "delete from attachment_blob b where b.id = $1 and not exists (select from attachment a where a.blob_id = b.id)",
        id
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
