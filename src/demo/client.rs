//! The demo's client: a field app that submits, repeats itself when it is not sure, and asks what became of it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use uuid::Uuid;

use super::DemoError;

/// A submission on its way to registration.
#[derive(Debug)]
pub(super) struct Journey {
    pub event: &'static str,
    pub transaction_id: String,
    pub started: Instant,
    pub record_id: Uuid,
    pub tracking_id: String,
    pub registration_number: Option<String>,
    pub took: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    record: Record,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: Uuid,
    tracking_id: String,
    registration_number: Option<String>,
}

/// Talks to the API with a registrar's token.
#[derive(Clone)]
pub(super) struct Client {
    pub http: reqwest::Client,
    pub gateway: String,
    pub token: String,
}

impl Client {
    /// Submits a declaration; `again` sends it a second time, as a client that lost the answer would.
    pub(super) async fn submit(
        &self,
        event: &'static str,
        declaration: &str,
        transaction_id: String,
        again: bool,
    ) -> Result<Journey, DemoError> {
        let started = Instant::now();
        let body = format!(r#"{{"event":"{event}","action":"register","declaration":{declaration}}}"#);
        let first = self.post(&transaction_id, body.clone()).await?;
        if again && self.post(&transaction_id, body).await? != first {
            return Err(DemoError::NotReplayed);
        }
        let Transaction { record } = serde_json::from_str(&first)?;
        Ok(Journey {
            event,
            transaction_id,
            started,
            record_id: record.id,
            tracking_id: record.tracking_id,
            registration_number: None,
            took: Duration::ZERO,
        })
    }

    async fn post(&self, transaction_id: &str, body: String) -> Result<String, DemoError> {
        let request = self
            .http
            .post(format!("{}/records", self.gateway))
            .bearer_auth(&self.token)
            .header("idempotency-key", transaction_id)
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status.as_u16() == 202 { Ok(text) } else { Err(DemoError::Refused(status.as_u16(), text)) }
    }

    /// Asks whether it is registered; fills in the number when it is.
    pub(super) async fn ask(&self, journey: &mut Journey) -> Result<bool, DemoError> {
        let url = format!("{}/transactions/{}", self.gateway, journey.transaction_id);
        let text = self.http.get(url).bearer_auth(&self.token).send().await?.error_for_status()?.text().await?;
        let Transaction { record } = serde_json::from_str(&text)?;
        journey.registration_number = record.registration_number;
        journey.took = journey.started.elapsed();
        Ok(journey.registration_number.is_some())
    }
}
