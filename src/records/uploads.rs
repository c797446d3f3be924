//! Bytes that are uploaded by themselves, and what becomes of those that nothing refers to.
//!
//! A blob is begun, gets its chunks, each in a transaction of its own, and becomes an attachment when it is whole and its
//! digest is what was announced. Until then nobody sees it; if that never comes, or another copy was first, housekeeping
//! takes it away. To send the bytes is the proof that one has them: it is remembered.
//!
//! Promises: two uploads of one digest are both fine, and one copy stays; what a transaction is about to refer to is not
//! collected.

use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{blob, upload};

use super::store::blob::Blob;
pub use super::store::blob::POSTGRES;

/// Bytes that turned out to be what was announced.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// SHA-256 of the bytes.
    pub sha256: &'a [u8; 32],
    /// What they are.
    pub media_type: &'a str,
    /// How many.
    pub size: i64,
}

/// Bytes are about to come.
pub async fn begin(conn: &mut PgConnection, blob: &Blob) -> sqlx::Result<()> {
    blob::begin(conn, blob).await
}

/// Writes a chunk. False if the upload took so long that it was taken for broken.
pub async fn append(conn: &mut PgConnection, blob_id: Uuid, ordinal: i32, data: &[u8]) -> sqlx::Result<bool> {
    blob::append(conn, blob_id, ordinal, data).await
}

/// Says that bytes arrive that are stored elsewhere. False as for [`append`].
pub async fn touch(conn: &mut PgConnection, blob_id: Uuid) -> sqlx::Result<bool> {
    blob::touch(conn, blob_id).await
}

/// How often an upload is finished anew after the copy that was first was collected.
const TRIES: usize = 3;

/// Makes a whole blob an attachment and remembers who sent it. False if there was one already: the blob may go then.
pub async fn finish(
    conn: &mut PgConnection,
    whole: Whole<'_>,
    blob_id: Uuid,
    principal_id: &str,
) -> sqlx::Result<bool> {
    let mut tries = 0;
    loop {
        tries += 1;
        let header = (whole.sha256.as_slice(), whole.media_type, whole.size);
        match upload::finish(conn, header, blob_id, principal_id).await {
            // The one that was there was collected in this moment.
            Err(sqlx::Error::Database(e)) if e.is_foreign_key_violation() && tries < TRIES => {}
            done => return done,
        }
    }
}

/// Remembers that somebody sent bytes that were here already. False if they are not any more.
pub async fn remember(conn: &mut PgConnection, sha256: &[u8; 32], principal_id: &str) -> sqlx::Result<bool> {
    upload::remember(conn, sha256, principal_id).await
}

/// Says of a blob that it is not needed; housekeeping takes it away.
pub async fn abandon(conn: &mut PgConnection, blob_id: Uuid) -> sqlx::Result<()> {
    blob::abandon(conn, &[blob_id]).await
}

/// Attachments and blobs that one turn collects at most.
const TURN: i64 = 500;

/// Collects attachments that no record has and nobody uploaded for so many hours; returns how many. Their bytes are left
/// to [`orphans`]. In a transaction of the caller.
pub async fn collect(conn: &mut PgConnection, hours: i32) -> sqlx::Result<u64> {
    let locked = upload::lock_unreferenced(conn, hours, TURN).await?;
    if locked.is_empty() {
        return Ok(0);
    }
    // A statement of its own sees what was committed before the locks were there.
    let blobs = upload::delete_unreferenced(conn, &locked, hours).await?;
    blob::abandon(conn, &blobs).await?;
    Ok(u64::try_from(blobs.len()).unwrap_or(u64::MAX))
}

/// Bytes that belong to no attachment and were not touched for so many hours.
pub async fn orphans(conn: &mut PgConnection, hours: i32) -> sqlx::Result<Vec<Blob>> {
    blob::orphans(conn, hours, TURN).await
}

/// Deletes bytes that belong to no attachment; returns whether they were still there. What is elsewhere has to be gone by
/// then.
pub async fn delete(conn: &mut PgConnection, blob_id: Uuid) -> sqlx::Result<bool> {
    Ok(blob::delete(conn, blob_id).await? == 1)
}
