//! The table `destination`: the configuration's destinations, as every instance and every DBA sees them.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Effect;

/// What is sent to a destination and what its answer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "kebab-case")]
#[sqlx(type_name = "destination_protocol", rename_all = "kebab-case")]
pub enum Protocol {
    /// A JSON envelope; any 2xx is done.
    #[default]
    Event,
    /// The stamped declaration, posted to `{url}/event-registration`; the answer may be a verdict.
    EventRegistration,
}

/// Whether deliveries carry a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "destination_auth", rename_all = "lowercase")]
pub enum Auth {
    /// No `Authorization` header.
    None,
    /// A short-lived token minted for the delivery.
    #[default]
    Token,
}

/// A destination without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What is sent.
    pub protocol: Protocol,
    /// What it receives.
    pub effects: Vec<Effect>,
    /// Whether it gets tokens.
    pub auth: Auth,
    /// Exchanges that one instance holds open at a time.
    pub concurrency: u16,
}

/// Writes the configured destinations; those no longer configured stay, disabled, and are returned. Idempotent. All
/// instances take the rows in the order of their names.
pub async fn apply(conn: &mut PgConnection, definitions: &[Definition]) -> sqlx::Result<Vec<String>> {
    let mut definitions: Vec<&Definition> = definitions.iter().collect();
    definitions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for d in &definitions {
        upsert(conn, d).await?;
    }
    let names: Vec<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
    disable_others(conn, &names).await
}

async fn upsert(conn: &mut PgConnection, d: &Definition) -> sqlx::Result<()> {
    let effects: Vec<&str> = d.effects.iter().map(|e| e.as_str()).collect();
    sqlx::query!(
        r#"
        insert into destination (name, url, protocol, effects, auth, concurrency)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (name) do update
        set url = excluded.url, protocol = excluded.protocol, effects = excluded.effects,
            auth = excluded.auth, concurrency = excluded.concurrency, enabled = true, applied_at = now()
        "#,
        d.name,
        d.url,
        d.protocol as Protocol,
        &effects as &[&str],
        d.auth as Auth,
        i32::from(d.concurrency),
    )
    .execute(conn)
    .await
    .map(drop)
}

async fn disable_others(conn: &mut PgConnection, names: &[&str]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update destination set enabled = false, applied_at = now() where enabled and name <> all ($1) returning name",
        names as &[&str],
    )
    .fetch_all(conn)
    .await
}
