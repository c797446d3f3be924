//! The tables `attachment`, `attachment_chunk` and `record_attachment`.

use sqlx::PgConnection;
use uuid::Uuid;

/// Bytes per chunk.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Inserts headers, sorted by digest; returns the digests that were not there before.
pub(crate) async fn insert_headers(
    conn: &mut PgConnection,
    digests: &[&[u8]],
    media_types: &[&str],
    sizes: &[i64],
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"
        insert into attachment (sha256, media_type, size)
        select distinct on (a.sha256) a.sha256, a.media_type, a.size
        from unnest($1::bytea[], $2::text[], $3::bigint[]) as a (sha256, media_type, size)
        order by a.sha256
        on conflict (sha256) do nothing
        returning sha256
        "#,
        digests as &[&[u8]],
        media_types as &[&str],
        sizes,
    )
    .fetch_all(conn)
    .await
}

/// Inserts consecutive chunks of one attachment, the first with this ordinal.
pub(crate) async fn insert_chunks(
    conn: &mut PgConnection,
    sha256: &[u8],
    first: i32,
    chunks: &[&[u8]],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into attachment_chunk (sha256, ordinal, data)
        select $1, $2 + c.ordinal::int - 1, c.data
        from unnest($3::bytea[]) with ordinality as c (data, ordinal)
        "#,
        sha256,
        first,
        chunks as &[&[u8]],
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

/// The header of an attachment.
pub(crate) async fn header(conn: &mut PgConnection, sha256: &[u8]) -> sqlx::Result<Option<(String, i64)>> {
    let row =
        sqlx::query!("select media_type, size from attachment where sha256 = $1", sha256).fetch_optional(conn).await?;
    Ok(row.map(|r| (r.media_type, r.size)))
}

/// One chunk of an attachment.
pub(crate) async fn chunk(conn: &mut PgConnection, sha256: &[u8], ordinal: i32) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!("select data from attachment_chunk where sha256 = $1 and ordinal = $2", sha256, ordinal)
        .fetch_optional(conn)
        .await
}

/// A record that has an attachment, and what decides who may read it.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The record.
    pub record_id: Uuid,
    /// Its event.
    pub event: String,
    /// Who submitted it.
    pub created_by: String,
}

/// The records that have an attachment.
pub(crate) async fn holders(conn: &mut PgConnection, sha256: &[u8]) -> sqlx::Result<Vec<Holder>> {
    sqlx::query_as!(
        Holder,
        r#"
        select distinct r.id as record_id, r.event, r.created_by
        from record_attachment l join record r on r.id = l.record_id
        where l.sha256 = $1
        "#,
        sha256
    )
    .fetch_all(conn)
    .await
}
