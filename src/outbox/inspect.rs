//! What operators look at: messages, their attempts, what was done to them, and destinations. Reads only, and nothing
//! that the role `crvs_outbox_reader` may not read.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::MessageState;

/// A message, live or finished.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The message.
    pub id: i64,
    /// The consequence.
    pub kind: String,
    /// Where it goes.
    pub destination: String,
    /// Its state.
    pub state: MessageState,
    /// Dead and set aside: later ones of its record go on.
    pub skipped: bool,
    /// Exchanges so far.
    pub attempts: i32,
    /// The last answer or failure, for example `http-503` or `timeout`.
    pub because: Option<String>,
    /// Retrying: when the next attempt is due. Delivering: the end of the lease.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Its id for the receiver.
    pub transaction_id: String,
    /// The record it is about.
    pub record_id: Uuid,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When it was delivered or cancelled.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
}

/// Which messages to list.
#[derive(Clone, Debug)]
pub struct Filter<'a> {
    /// Of this destination.
    pub destination: Option<&'a str>,
    /// In one of these states; none given: any.
    pub states: &'a [MessageState],
    /// Whose last answer or failure fits this pattern of SQL's `like`.
    pub error_like: Option<&'a str>,
    /// No more than so many.
    pub limit: i64,
}

/// Live messages, the oldest first.
pub async fn live(conn: &mut PgConnection, filter: &Filter<'_>) -> sqlx::Result<Vec<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        select m.id, m.kind, m.destination, m.state as "state: MessageState", m.skipped, m.attempt as attempts,
               coalesce(m.last_error, 'http-' || m.last_status) as because,
               case m.state when 'retrying' then m.available_at when 'delivering' then m.lease_until end as until,
               m.transaction_id, m.record_id, m.created_at as since, null::timestamptz as finished_at
        from outbox_message m
        where ($1::text is null or m.destination = $1) and (cardinality($2::message_state[]) = 0 or m.state = any ($2))
          and ($3::text is null or coalesce(m.last_error, 'http-' || m.last_status, 'unknown') like $3)
        order by m.id
        limit $4
        "#,
        filter.destination,
        filter.states as &[MessageState],
        filter.error_like,
        filter.limit,
    )
    .fetch_all(conn)
    .await
}

/// Finished messages, the newest first.
pub async fn finished(conn: &mut PgConnection, filter: &Filter<'_>) -> sqlx::Result<Vec<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        select h.id, h.kind, h.destination, h.state as "state: MessageState", false as "skipped!", h.attempt as attempts,
               coalesce('http-' || h.last_status, h.last_error) as because, null::timestamptz as until,
               h.transaction_id, h.record_id, h.created_at as since, h.finished_at as "finished_at?"
        from outbox_history h
        where ($1::text is null or h.destination = $1) and (cardinality($2::message_state[]) = 0 or h.state = any ($2))
          and ($3::text is null or coalesce('http-' || h.last_status, h.last_error, 'unknown') like $3)
        order by h.id desc
        limit $4
        "#,
        filter.destination,
        filter.states as &[MessageState],
        filter.error_like,
        filter.limit,
    )
    .fetch_all(conn)
    .await
}

/// One message, wherever it is.
pub async fn one(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        select m.id as "id!", m.kind as "kind!", m.destination as "destination!", m.state as "state!: MessageState",
               m.skipped as "skipped!", m.attempt as "attempts!", coalesce(m.last_error, 'http-' || m.last_status) as because,
               case m.state when 'retrying' then m.available_at when 'delivering' then m.lease_until end as until,
               m.transaction_id as "transaction_id!", m.record_id as "record_id!", m.created_at as "since!",
               null::timestamptz as finished_at
        from outbox_message m where m.id = $1
        union all
        select h.id, h.kind, h.destination, h.state, false, h.attempt, coalesce('http-' || h.last_status, h.last_error), null,
               h.transaction_id, h.record_id, h.created_at, h.finished_at
        from outbox_history h where h.id = $1
        limit 1
        "#,
        id,
    )
    .fetch_optional(conn)
    .await
}

/// One exchange.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which attempt it was; counts anew after an operator's retry.
    pub attempt: i32,
    /// How it ended: delivered, retry, dead, released or `lease_expired`.
    pub outcome: String,
    /// HTTP status of the answer.
    pub status: Option<i16>,
    /// Class of the failure.
    pub error: Option<String>,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// The worker that made it.
    pub worker_id: Option<Uuid>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// The exchanges of a message, in order.
pub async fn attempts(conn: &mut PgConnection, id: i64) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        r#"
        select attempt as "attempt!", outcome::text as "outcome!", status, error, extract(epoch from duration)::float8 as seconds,
               worker_id, finished_at as "finished_at!"
        from outbox_attempts where message_id = $1 order by finished_at, lease
        "#,
        id,
    )
    .fetch_all(conn)
    .await
}

/// Something that an operator did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The database user.
    pub by_user: String,
    /// Who that was, as their tool said.
    pub by_name: Option<String>,
    /// retry, cancel, pause or resume.
    pub action: String,
    /// Why.
    pub why: Option<String>,
}

/// What was done to a message, in order.
pub async fn actions(conn: &mut PgConnection, id: i64) -> sqlx::Result<Vec<Action>> {
    sqlx::query_as!(
        Action,
        r#"select at, by_user, by_name, action::text as "action!", why from operator_action where message_id = $1 order by id"#,
        id,
    )
    .fetch_all(conn)
    .await
}

/// A destination and what is unfinished there.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationLine {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What is sent.
    pub format: String,
    /// Whether it is in the configuration.
    pub enabled: bool,
    /// closed, open or `half_open`.
    pub circuit: String,
    /// When the next probe may be sent.
    #[serde(with = "time::serde::rfc3339::option")]
    pub circuit_probe_at: Option<OffsetDateTime>,
    /// Since when it is paused.
    #[serde(with = "time::serde::rfc3339::option")]
    pub paused_at: Option<OffsetDateTime>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_why: Option<String>,
    /// Ready messages.
    pub queued: i64,
    /// Messages behind an earlier one of their record.
    pub blocked: i64,
    /// Messages on their way.
    pub delivering: i64,
    /// Messages that wait for their next attempt.
    pub retrying: i64,
    /// Messages that rest until they are retried or cancelled.
    pub dead: i64,
    /// How long the oldest message that could be sent now has been waiting, in seconds.
    pub oldest_due_seconds: Option<f64>,
}

/// All destinations, by name.
pub async fn destinations(conn: &mut PgConnection) -> sqlx::Result<Vec<DestinationLine>> {
    sqlx::query_as!(
        DestinationLine,
        r#"
        select d.name, d.url, d.format::text as "format!", d.enabled, d.circuit::text as "circuit!", d.circuit_probe_at,
               d.paused_at, d.paused_by, d.paused_why, b.queued as "queued!", b.blocked as "blocked!", b.delivering as "delivering!",
               b.retrying as "retrying!", b.dead as "dead!", extract(epoch from b.oldest_due_age)::float8 as oldest_due_seconds
        from destination d join outbox_backlog b on b.destination = d.name
        order by d.name
        "#,
    )
    .fetch_all(conn)
    .await
}
