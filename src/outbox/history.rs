//! What became of messages: reads over the live table and the history.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::MessageState;

/// A message as its transaction's owner sees it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeliveryInHistory)]
pub struct Delivery {
    /// Where it goes.
    pub destination: String,
    /// The consequence.
    pub kind: String,
    /// Its state.
    pub state: MessageState,
    /// Exchanges so far.
    pub attempts: i32,
    /// Class of the last failure.
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// When it was delivered or cancelled.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// The action it belongs to.
    #[serde(skip)]
    pub action_id: Uuid,
}

/// The messages of actions, in order of acceptance.
pub async fn of_actions(conn: &mut PgConnection, actions: &[Uuid]) -> sqlx::Result<Vec<Delivery>> {
    sqlx::query_as!(
        Delivery,
        r#"
        select destination as "destination!", kind as "kind!", state as "state!: MessageState", attempts as "attempts!",
               last_error, finished_at, action_id as "action_id!"
        from (
            select id, destination, kind, state, attempt as attempts, last_error, null::timestamptz as finished_at, action_id, redelivery
            from outbox_message where action_id = any ($1)
            union all
            select id, destination, kind, state, attempt, last_error, finished_at, action_id, redelivery
            from outbox_history where action_id = any ($1)
        ) as both_tables
        order by id
        "#,
        actions
    )
    .fetch_all(conn)
    .await
}

/// Whether an action has an unfinished message of this kind.
pub async fn has_live(conn: &mut PgConnection, action_id: Uuid, kind: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from outbox_message where action_id = $1 and kind = $2) as "live!""#,
        action_id,
        kind
    )
    .fetch_one(conn)
    .await
}
