//! How far behind the queue is: what submissions are refused by, and what the metrics show.
//!
//! The whole backlog counts, but for the one destination that is furthest behind, unless it is the only one or configured
//! with `backpressure = true`: one dead receiver is an alert, not a reason to refuse births.

use std::time::Duration;

use sqlx::PgConnection;

/// One destination's backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The destination.
    pub destination: String,
    /// Ready messages, counted no further than one past the limit.
    pub ready: u64,
    /// Since when the oldest due message waits.
    pub oldest_due: Option<Duration>,
    /// Neither paused nor its circuit open.
    pub flows: bool,
    /// Counts fully.
    pub backpressure: bool,
}

/// Past which submissions are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ready messages.
    pub ready: u64,
    /// Age of the oldest due message; `None`: however old.
    pub age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ready: 1_000_000, age: None }
    }
}

/// Reads the backlog of every enabled destination.
pub async fn read(conn: &mut PgConnection, limits: Limits) -> sqlx::Result<Vec<Backlog>> {
    let rows = sqlx::query!(
        r#"
        select destination as "destination!", ready as "ready!", extract(epoch from oldest_due_age)::float8 as age,
               flows as "flows!", backpressure as "backpressure!"
        from outbox_pressure($1)
        "#,
        i64::try_from(limits.ready).unwrap_or(i64::MAX - 1),
    )
    .fetch_all(conn)
    .await?;
    let backlogs = rows.into_iter().map(|r| Backlog {
        destination: r.destination,
        ready: u64::try_from(r.ready).unwrap_or_default(),
        oldest_due: r.age.map(|s| Duration::from_secs_f64(s.max(0.0))),
        flows: r.flows,
        backpressure: r.backpressure,
    });
    Ok(backlogs.collect())
}

/// Whether submissions are refused.
pub fn is_too_much(backlogs: &[Backlog], limits: Limits) -> bool {
    let (full, mut others): (Vec<&Backlog>, Vec<&Backlog>) = backlogs.iter().partition(|b| b.backpressure);
    if backlogs.len() > 1 {
        others.sort_unstable_by_key(|b| (b.ready, b.oldest_due));
        others.pop();
    }
    let counted = || full.iter().chain(&others);
    let ready: u64 = counted().map(|b| b.ready).sum();
    let age = counted().filter_map(|b| b.oldest_due).max();
    ready > limits.ready || limits.age.zip(age).is_some_and(|(limit, age)| age > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { ready: 100, age: Some(Duration::from_mins(1)) };

    fn backlog(ready: u64, secs: u64) -> Backlog {
        Backlog {
            destination: "any".to_owned(),
            ready,
            oldest_due: Some(Duration::from_secs(secs)),
            flows: true,
            backpressure: false,
        }
    }

    #[test]
    fn the_only_destination_is_the_whole_backlog() {
        assert!(!is_too_much(&[backlog(100, 60)], LIMITS));
        assert!(is_too_much(&[backlog(101, 0)], LIMITS));
        assert!(is_too_much(&[backlog(1, 61)], LIMITS));
    }

    #[test]
    fn one_destination_among_others_is_an_alert() {
        assert!(!is_too_much(&[backlog(101, 90_000), backlog(3, 1)], LIMITS));
        assert!(is_too_much(&[backlog(101, 90_000), backlog(101, 70)], LIMITS));
    }

    #[test]
    fn everything_down_is_not_one_destination() {
        let stopped = || Backlog { flows: false, ..backlog(101, 90_000) };
        assert!(is_too_much(&[stopped(), stopped(), backlog(5, 1)], LIMITS));
        assert!(!is_too_much(&[stopped(), backlog(5, 1), backlog(5, 1)], LIMITS));
    }

    #[test]
    fn a_destination_that_asks_for_it_counts_whatever_its_state() {
        let asks = Backlog { flows: false, backpressure: true, ..backlog(101, 5) };
        assert!(is_too_much(&[asks, backlog(1, 1)], LIMITS));
    }
}
