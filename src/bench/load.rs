//! Submissions at a steady rate, each followed by one long poll until it is settled.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::BenchError;

/// What one submission saw.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) transaction_id: String,
    /// How long the 202 took.
    pub(super) accepted: Duration,
    /// When the client was told that it is settled.
    pub(super) settled_at: SystemTime,
}

/// A client with a token that may declare.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    pub(super) token: Arc<str>,
}

impl Client {
    /// Declares a birth.
    pub(super) async fn declare(&self, id: &str, body: String) -> Result<Duration, BenchError> {
        let started = Instant::now();
        let request = self.http.post(format!("{}/records", self.base)).bearer_auth(&self.token);
        let request = request.header("idempotency-key", id).header("content-type", "application/json").body(body);
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        if status == 202 { Ok(started.elapsed()) } else { Err(BenchError::Answer("POST /records", status)) }
    }

    async fn until_settled(&self, id: &str) -> Result<SystemTime, BenchError> {
        loop {
            let request = self.http.get(format!("{}/transactions/{id}", self.base)).bearer_auth(&self.token);
            let answer = request.header("prefer", "wait=30").send().await?;
            let status = answer.status().as_u16();
            if status != 200 {
                return Err(BenchError::Answer("GET /transactions/{id}", status));
            }
            if answer.text().await?.contains(r#""settled":true"#) {
                return Ok(SystemTime::now());
            }
        }
    }
}

/// A birth of nobody; `n` makes the names differ.
pub(super) fn birth(year: u16, n: u64) -> String {
    let (child, mother) = (name(n), name(n.wrapping_mul(7919).wrapping_add(1)));
    let (month, day) = (1 + n % 12, 1 + n / 12 % 28);
    format!(
        r#"{{"event":"birth","action":"declare","declaration":{{"child.firstName":"{child}","child.familyName":"{mother}","child.dateOfBirth":"{year}-{month:02}-{day:02}","mother.firstName":"{mother}","mother.familyName":"{child}"}}}}"#
    )
}

/// The same with a declaration of 1 kB. The days are of twenty years: what is looked for possible duplicates among is few.
pub(super) fn large_birth(n: u64) -> String {
    let year = 2006 + u16::try_from(n / 336 % 20).unwrap_or_default();
    let (mut body, note) = (birth(year, n), name(n).repeat(80));
    body.truncate(body.len() - 2);
    let note = note.get(..800).unwrap_or(&note);
    body + r#","note":""# + note + r#""}}"#
}

/// Letters from a number: pronounceable, and as different as the numbers are.
pub(super) fn name(n: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ka", "lu", "mi", "no", "ra", "shi", "ta", "vu", "we", "yo", "zan", "bir", "dor", "fel", "gam", "hes"];
    // SplitMix64: each bit of the number moves each syllable.
    let mut rest = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    rest = (rest ^ (rest >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    rest = (rest ^ (rest >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let mut text = String::new();
    for _ in 0..5 {
        text.push_str(SYLLABLES.get(usize::try_from(rest >> 60).unwrap_or_default()).unwrap_or(&"ka"));
        rest <<= 4;
    }
    text
}

/// Submits at `rate` a second for so long, whatever the answers take, and waits for each to be settled.
pub(super) async fn steady(client: &Client, rate: u32, lasts: Duration, run: &str) -> Result<Vec<Told>, BenchError> {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    // Another run's births are others.
    let first = run.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(256).wrapping_add(u64::from(byte)));
    let mut n = 0_u64;
    while started.elapsed() < lasts {
        ticks.tick().await;
        n += 1;
        let (client, id) = (client.clone(), format!("bench-{run}-{n:07}"));
        tasks.spawn(async move {
            let accepted = client.declare(&id, birth(2026, first.wrapping_add(n))).await?;
            let settled_at = client.until_settled(&id).await?;
            Ok::<_, BenchError>(Told { transaction_id: id, accepted, settled_at })
        });
    }
    let mut told = Vec::with_capacity(tasks.len());
    while let Some(one) = tasks.join_next().await {
        told.push(one??);
    }
    Ok(told)
}
