//! The tables `attachment` and `record_attachment`.

use sqlx::PgConnection;
use uuid::Uuid;

/// A header to insert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewHeader<'a> {
    pub sha256: &'a [u8],
    pub media_type: &'a str,
    pub size: i64,
    pub blob_id: Uuid,
}

/// Inserts headers, sorted by digest; returns the digests that were not there before, with their blobs. `own_blobs`:
/// whether the blobs have rows already; otherwise those of the new headers are made, in PostgreSQL.
pub(crate) async fn insert_headers(
    conn: &mut PgConnection,
    headers: &[NewHeader<'_>],
    own_blobs: bool,
) -> sqlx::Result<Vec<Vec<u8>>> {
    let digests: Vec<&[u8]> = headers.iter().map(|h| h.sha256).collect();
    let media_types: Vec<&str> = headers.iter().map(|h| h.media_type).collect();
    let sizes: Vec<i64> = headers.iter().map(|h| h.size).collect();
    let blobs: Vec<Uuid> = headers.iter().map(|h| h.blob_id).collect();
    sqlx::query_scalar!(
        r#"
        with new as (
            insert into attachment (sha256, media_type, size, blob_id)
            select distinct on (a.sha256) a.sha256, a.media_type, a.size, a.blob_id
            from unnest($1::bytea[], $2::text[], $3::bigint[], $4::uuid[]) as a (sha256, media_type, size, blob_id)
            order by a.sha256
            on conflict (sha256) do nothing
            returning sha256, blob_id),
        blobs as (insert into attachment_blob (id) select blob_id from new where not $5)
        select sha256 as "sha256!" from new
        "#,
        &digests as &[&[u8]],
        &media_types as &[&str],
        &sizes,
        &blobs,
        own_blobs,
    )
    .fetch_all(conn)
    .await
}

/// Holds attachments, so that they are not collected before this transaction ends; returns those that are there.
pub(crate) async fn hold(conn: &mut PgConnection, digests: &[&[u8]]) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "select sha256 from attachment where sha256 = any($1) order by sha256 for key share",
        digests as &[&[u8]]
    )
    .fetch_all(conn)
    .await
}

/// The attachments of one version become those of another too.
pub(crate) async fn carry(conn: &mut PgConnection, record_id: Uuid, from: i32, to: i32) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into record_attachment (record_id, version, ordinal, sha256, kind)
        select record_id, $3, ordinal, sha256, kind from record_attachment where record_id = $1 and version = $2
        "#,
        record_id,
        from,
        to
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Which attachments a version came with.
#[derive(Clone, Debug)]
pub(crate) struct Link<'a> {
    pub record_id: Uuid,
    pub version: i32,
    pub ordinal: i32,
    pub sha256: &'a [u8],
    pub kind: Option<&'a str>,
}

/// Links attachments to record versions.
pub(crate) async fn link(conn: &mut PgConnection, links: &[Link<'_>]) -> sqlx::Result<()> {
    let records: Vec<Uuid> = links.iter().map(|l| l.record_id).collect();
    let versions: Vec<i32> = links.iter().map(|l| l.version).collect();
    let ordinals: Vec<i32> = links.iter().map(|l| l.ordinal).collect();
    let digests: Vec<&[u8]> = links.iter().map(|l| l.sha256).collect();
    let kinds: Vec<Option<&str>> = links.iter().map(|l| l.kind).collect();
    sqlx::query!(
        r#"
        insert into record_attachment (record_id, version, ordinal, sha256, kind)
        select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[], $5::text[])
        "#,
        &records,
        &versions,
        &ordinals,
        &digests as &[&[u8]],
        &kinds as &[Option<&str>],
    )
    .execute(conn)
    .await
    .map(drop)
}

/// An attachment of a record version.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub sha256: Vec<u8>,
    pub media_type: String,
    pub size: i64,
    pub kind: Option<String>,
}

/// The attachments of a record version, in order.
pub(crate) async fn of_version(conn: &mut PgConnection, record_id: Uuid, version: i32) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select a.sha256, a.media_type, a.size, l.kind
        from record_attachment l join attachment a on a.sha256 = l.sha256
        where l.record_id = $1 and l.version = $2
        order by l.ordinal
        "#,
        record_id,
        version
    )
    .fetch_all(conn)
    .await
}

/// The header of an attachment, and where its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub sha256: Vec<u8>,
    pub media_type: String,
    pub size: i64,
    pub blob_id: Uuid,
    pub place: String,
    pub path: Option<String>,
}

/// The headers of attachments.
pub(crate) async fn headers(conn: &mut PgConnection, digests: &[&[u8]]) -> sqlx::Result<Vec<Header>> {
    sqlx::query_as!(
        Header,
        r#"
        select a.sha256, a.media_type, a.size, a.blob_id, b.place, b.path
        from attachment a join attachment_blob b on b.id = a.blob_id
        where a.sha256 = any($1)
        "#,
        digests as &[&[u8]]
    )
    .fetch_all(conn)
    .await
}

/// A record that has an attachment, and what decides who may read it.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The attachment.
    pub sha256: Vec<u8>,
    /// The record.
    pub record_id: Uuid,
    /// Its event.
    pub event: String,
    /// Who submitted it.
    pub created_by: String,
}

/// The records that have attachments, by digest.
pub(crate) async fn holders(conn: &mut PgConnection, digests: &[&[u8]]) -> sqlx::Result<Vec<Holder>> {
    sqlx::query_as!(
        Holder,
        r#"
        select distinct l.sha256, r.id as record_id, r.event, r.created_by
        from record_attachment l join record r on r.id = l.record_id
        where l.sha256 = any($1)
        "#,
        digests as &[&[u8]]
    )
    .fetch_all(conn)
    .await
}
