//! What the demo says at the end.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::DemoError;
use super::client::Journey;

/// The summary.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub records: Vec<RecordLine>,
    /// Effects computed from the submissions.
    pub effects_expected: usize,
    /// Effects in the receivers' ledger.
    pub effects_happened: usize,
    /// Whether the two are the same set.
    pub exactly_once: bool,
    /// Requests that the receivers took, repetitions and failures included.
    pub receipts: i64,
    /// Messages that needed more than one attempt.
    pub messages_retried: i64,
    pub api: String,
    pub internal: String,
    pub psql: String,
}

/// One record of the summary.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordLine {
    pub event: &'static str,
    pub record_id: Uuid,
    pub transaction_id: String,
    pub tracking_id: String,
    pub registration_number: Option<String>,
    pub deliveries: i64,
    pub attempts: i64,
    pub seconds: f64,
}

/// Reads how many messages a record had, and how many attempts they took.
pub(super) async fn line(db: &PgPool, journey: &Journey) -> Result<RecordLine, DemoError> {
    let row = sqlx::query!(
        r#"select count(*) as "deliveries!", coalesce(sum(attempt), 0) as "attempts!" from outbox_history
           where record_id = $1 and state = 'delivered'"#,
        journey.record_id
    )
    .fetch_one(db)
    .await?;
    Ok(RecordLine {
        event: journey.event,
        record_id: journey.record_id,
        transaction_id: journey.transaction_id.clone(),
        tracking_id: journey.tracking_id.clone(),
        registration_number: journey.registration_number.clone(),
        deliveries: row.deliveries,
        attempts: row.attempts,
        seconds: (journey.took.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

/// How many messages of these records needed more than one attempt.
pub(super) async fn retried(db: &PgPool, records: &[Uuid]) -> Result<i64, DemoError> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from outbox_history where record_id = any ($1) and attempt > 1"#,
        records
    )
    .fetch_one(db)
    .await?;
    Ok(n)
}

/// Whether everything that these records caused has left the queue.
pub(super) async fn settled(db: &PgPool, records: &[Uuid]) -> Result<bool, DemoError> {
    let live = sqlx::query_scalar!(
        r#"select exists (select from outbox_message where record_id = any ($1)) as "live!""#,
        records
    )
    .fetch_one(db)
    .await?;
    Ok(!live)
}

impl Report {
    /// Whether all is as promised.
    pub(super) fn is_good(&self) -> bool {
        self.exactly_once && self.records.iter().all(|r| r.registration_number.is_some())
    }

    /// The table for people; of many records the first ten.
    pub(super) fn table(&self) -> String {
        use std::fmt::Write as _;
        const SHOWN: usize = 10;
        let mut text = String::new();
        let mut put = |line: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            writeln!(text, "{line}").unwrap_or_default();
        };
        put(format_args!(
            "\n  {:<9} {:<37} {:<12} {:<20} {:>10} {:>9} {:>8}",
            "event", "record", "tracking id", "registration number", "deliveries", "attempts", "seconds"
        ));
        for r in self.records.iter().take(SHOWN) {
            let number = r.registration_number.as_deref().unwrap_or("(none)");
            put(format_args!(
                "  {:<9} {:<37} {:<12} {:<20} {:>10} {:>9} {:>8.3}",
                r.event, r.record_id, r.tracking_id, number, r.deliveries, r.attempts, r.seconds
            ));
        }
        if self.records.len() > SHOWN {
            put(format_args!("  … and {} more", self.records.len() - SHOWN));
        }
        let verdict = if self.exactly_once { "each exactly once" } else { "NOT EXACTLY ONCE" };
        put(format_args!(
            "\n  {} of {} effects happened, {verdict}; {} requests were sent for them, {} messages needed more than one attempt.",
            self.effects_happened, self.effects_expected, self.receipts, self.messages_retried
        ));
        put(format_args!(
            "\n  API       {}\n  internal  {}/metrics\n  psql      {}",
            self.api, self.internal, self.psql
        ));
        text
    }
}
