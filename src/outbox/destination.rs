//! The table `destination`: the configuration's destinations as every instance and every DBA sees them, and their pause.
//! Whether messages flow is [`super::breaker`]'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::Effect;
use super::retry::Policy;

/// What is sent to a destination and what its answer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "kebab-case")]
#[sqlx(type_name = "destination_format", rename_all = "kebab-case")]
pub enum Format {
    /// A structured `CloudEvent`; any 2xx is done.
    #[default]
    Cloudevents,
    /// What OpenCRVS's search service takes.
    OpencrvsSearch,
    /// What OpenCRVS's metrics service takes of events.
    OpencrvsMetrics,
    /// What OpenCRVS's metrics service takes of its audit trail.
    OpencrvsAudit,
    /// What OpenCRVS's notification service takes.
    OpencrvsNotification,
    /// The stamped declaration, posted to `{url}/event-registration`; the answer may be a verdict.
    OpencrvsEventRegistration,
    /// The whole event document, posted to `{url}/trigger/events/{event}/actions/{ACTION}` (OpenCRVS 1.9); the answer may
    /// be a verdict.
    OpencrvsTrigger,
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

/// What a dead message does to later ones of its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "destination_on_dead", rename_all = "lowercase")]
pub enum OnDead {
    /// They wait until it is retried or cancelled.
    #[default]
    Hold,
    /// It is set aside and they go on.
    Skip,
}

/// When a destination is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row, of all instances, that open the circuit; 0: never.
    pub failures: u16,
    /// How long it stays open at first; doubles with each failed probe.
    pub base: Duration,
    /// How long it stays open at most.
    pub cap: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, base: Duration::from_secs(5), cap: Duration::from_mins(5) }
    }
}

/// A destination without its secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What is sent.
    pub format: Format,
    /// What it receives.
    pub effects: Vec<Effect>,
    /// Whether it gets tokens.
    pub auth: Auth,
    /// Exchanges that one instance holds open at a time.
    pub concurrency: u16,
    /// Messages that one claim takes at most.
    pub batch: u16,
    /// The deadline of an exchange, from the first byte sent to the last one read.
    pub timeout: Duration,
    /// Hard end of a lease; longer than `timeout`.
    pub lease: Duration,
    /// When to try again, and when not.
    pub policy: Policy,
    /// What a dead message does to later ones of its record.
    pub on_dead: OnDead,
    /// Whether its backlog counts fully against the limit past which submissions are refused.
    pub backpressure: bool,
    /// Requests per second of all instances together.
    pub rate_limit: Option<f64>,
    /// When it is left alone.
    pub breaker: Breaker,
}

impl Default for Definition {
    fn default() -> Self {
        let timeout = Duration::from_secs(15);
        Self {
            name: String::new(),
            url: String::new(),
            format: Format::default(),
            effects: Vec::new(),
            auth: Auth::default(),
            concurrency: 16,
            batch: 100,
            timeout,
            lease: timeout + LEASE_MARGIN,
            policy: Policy::default(),
            on_dead: OnDead::default(),
            backpressure: false,
            rate_limit: None,
            breaker: Breaker::default(),
        }
    }
}

/// What a lease leaves for rendering before the exchange and for settling after it, unless it is said otherwise.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Writes the configured destinations; those no longer configured stay, disabled, and are returned. Idempotent; what an
/// operator or the breaker decided is left alone. All instances take the rows in the order of their names.
pub async fn apply(conn: &mut PgConnection, definitions: &[Definition]) -> sqlx::Result<Vec<String>> {
    let mut definitions: Vec<&Definition> = definitions.iter().collect();
    definitions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    hold_all(conn).await?;
    for d in &definitions {
        upsert(conn, d).await?;
    }
    let names: Vec<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
    disable_others(conn, &names).await
}

/// Two configurations that disable each other's destinations would deadlock.
async fn hold_all(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query_scalar!("select name from destination order by name for no key update").fetch_all(conn).await.map(drop)
}

async fn upsert(conn: &mut PgConnection, d: &Definition) -> sqlx::Result<()> {
    let effects: Vec<&str> = d.effects.iter().map(|e| e.as_str()).collect();
    sqlx::query!(
        r#"
        insert into destination (name, url, format, effects, auth, concurrency, batch, timeout, lease, retry_base, retry_cap,
                                 max_attempts, retry_on, dead_on, on_dead, backpressure, rate_limit,
                                 breaker_failures, breaker_base, breaker_cap)
        values ($1, $2, $3, $4, $5, $6, $7, make_interval(secs => $8), make_interval(secs => $9), make_interval(secs => $10),
                make_interval(secs => $11), $12, $13, $14, $15, $16, $17, $18, make_interval(secs => $19), make_interval(secs => $20))
        on conflict (name) do update
        set url = excluded.url, format = excluded.format, effects = excluded.effects, auth = excluded.auth,
            concurrency = excluded.concurrency, batch = excluded.batch, timeout = excluded.timeout, lease = excluded.lease,
            retry_base = excluded.retry_base, retry_cap = excluded.retry_cap, max_attempts = excluded.max_attempts,
            retry_on = excluded.retry_on, dead_on = excluded.dead_on, on_dead = excluded.on_dead,
            backpressure = excluded.backpressure, rate_limit = excluded.rate_limit, breaker_failures = excluded.breaker_failures,
            breaker_base = excluded.breaker_base, breaker_cap = excluded.breaker_cap,
            circuit = case when excluded.breaker_failures = 0 then 'closed' else destination.circuit end,
            circuit_probe_at = case when excluded.breaker_failures = 0 then null else destination.circuit_probe_at end,
            enabled = true, applied_at = now()
        "#,
        d.name,
        d.url,
        d.format as Format,
        &effects as &[&str],
        d.auth as Auth,
        i32::from(d.concurrency),
        i32::from(d.batch),
        d.timeout.as_secs_f64(),
        d.lease.as_secs_f64(),
        d.policy.base.as_secs_f64(),
        d.policy.cap.as_secs_f64(),
        d.policy.max_attempts.map(|n| i32::try_from(n).unwrap_or(i32::MAX)),
        &statuses(&d.policy.retry_on),
        &statuses(&d.policy.dead_on),
        d.on_dead as OnDead,
        d.backpressure,
        d.rate_limit,
        i32::from(d.breaker.failures),
        d.breaker.base.as_secs_f64(),
        d.breaker.cap.as_secs_f64(),
    )
    .execute(conn)
    .await
    .map(drop)
}

fn statuses(codes: &[u16]) -> Vec<i16> {
    codes.iter().filter_map(|code| i16::try_from(*code).ok()).collect()
}

async fn disable_others(conn: &mut PgConnection, names: &[&str]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update destination set enabled = false, applied_at = now() where enabled and name <> all ($1) returning name",
        names as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Pauses a destination that runs, and leaves who and why (P10): nothing is claimed for it until somebody resumes it. False if it was paused before.
pub async fn pause(conn: &mut PgConnection, name: &str, by: &str, why: &str) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with paused as (
            update destination set paused_at = now(), paused_by = $2, paused_why = $3
            where name = $1 and paused_at is null
            returning name
        )
        insert into operator_action (by_name, action, destination, why) select $2, 'pause', name, $3 from paused
        "#,
        name,
        by,
        why,
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() > 0)
}
