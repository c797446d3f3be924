//! The table `record_version`.

use sqlx::PgConnection;
use uuid::Uuid;

/// A version to insert.
#[derive(Clone, Debug)]
pub(crate) struct NewVersion<'a> {
    pub record_id: Uuid,
    pub version: i32,
    pub declaration: &'a str,
    pub created_by: &'a str,
}

/// Inserts versions.
pub(crate) async fn insert(conn: &mut PgConnection, versions: &[NewVersion<'_>]) -> sqlx::Result<()> {
    let records: Vec<Uuid> = versions.iter().map(|v| v.record_id).collect();
    let numbers: Vec<i32> = versions.iter().map(|v| v.version).collect();
    let declarations: Vec<&str> = versions.iter().map(|v| v.declaration).collect();
    let creators: Vec<&str> = versions.iter().map(|v| v.created_by).collect();
    sqlx::query!(
        r#"
        insert into record_version (record_id, version, declaration, created_by)
        select v.record_id, v.version, v.declaration::json, v.created_by
        from unnest($1::uuid[], $2::int[], $3::text[], $4::text[]) as v (record_id, version, declaration, created_by)
        "#,
        &records,
        &numbers,
        &declarations as &[&str],
        &creators as &[&str],
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The declaration of a version, as the text that was stored.
pub(crate) async fn declaration(
    conn: &mut PgConnection,
    record_id: Uuid,
    version: i32,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"select declaration::text as "declaration!" from record_version where record_id = $1 and version = $2"#,
        record_id,
        version
    )
    .fetch_optional(conn)
    .await
}
