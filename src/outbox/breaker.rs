//! The circuit of a destination: whether messages flow, as all instances see it (table `destination`).
//!
//! ```text
//! closed ── failures in a row ──▶ open ── circuit_probe_at is past: claim takes one ──▶ half_open
//!    ▲                             ▲                                                        │
//!    │                             └──────── the probe failed: twice as long, up to the cap ┤
//!    └──────────────────────────────────────────────────── any whole answer but 5xx ────────┘
//! ```
//!
//! A failure is an exchange without an answer, or 5xx. While it is open nothing is claimed, so no attempts are burnt.
//! `open → half_open` is part of the claim, where the probe is chosen: one at a time, of all instances together.

use sqlx::PgConnection;

/// What exchanges say about the destination, in the order they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Whether one was answered.
    pub answered: bool,
    /// Failures after the last one that was answered.
    pub failures: u16,
    /// Whether one of those failures was the probe.
    pub probe_failed: bool,
    /// Whether a probe ended without an exchange: it says nothing.
    pub probe_unused: bool,
}

impl Pulse {
    /// Another exchange: `None` if there was none, `Some(true)` if it was answered.
    pub fn note(&mut self, answered: Option<bool>, probe: bool) {
        match answered {
            None => self.probe_unused |= probe,
            Some(true) => {
                self.answered = true;
                self.failures = 0;
                self.probe_failed = false;
            }
            Some(false) => {
                self.failures = self.failures.saturating_add(1);
                self.probe_failed |= probe;
            }
        }
    }
}

/// What a pulse did to the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// Writes a pulse down. Costs nothing where there is nothing to say: call it only if there were failures or the circuit
/// was not known to be closed and clean.
pub async fn note(conn: &mut PgConnection, destination: &str, pulse: Pulse) -> sqlx::Result<Option<Change>> {
    let mut change = None;
    if pulse.answered && close(conn, destination).await? {
        change = Some(Change::Closed);
    }
    if pulse.failures > 0 && fail(conn, destination, pulse).await? {
        change = Some(Change::Opened);
    }
    if pulse.probe_unused {
        give_probe_back(conn, destination).await?;
    }
    Ok(change)
}

async fn close(conn: &mut PgConnection, destination: &str) -> sqlx::Result<bool> {
    let was = sqlx::query_scalar!(
        r#"
        update destination d
        set circuit = 'closed', circuit_failures = 0, circuit_opens = 0, circuit_probe_at = null,
            circuit_since = case when d.circuit = 'closed' then d.circuit_since else clock_timestamp() end
        from (select name, circuit from destination where name = $1 for no key update) old
        where d.name = old.name and (d.circuit <> 'closed' or d.circuit_failures > 0)
        returning old.circuit <> 'closed' as "closed!"
        "#,
        destination
    )
    .fetch_optional(conn)
    .await?;
    Ok(was.unwrap_or(false))
}

/// True if the circuit opened. Who shares the failures of one moment is a matter of luck, so the delay is jittered by a
/// fifth: instances and destinations do not probe in step.
async fn fail(conn: &mut PgConnection, destination: &str, pulse: Pulse) -> sqlx::Result<bool> {
    let opened = sqlx::query_scalar!(
        r#"
        update destination d
        set circuit_failures = d.circuit_failures + $2,
            circuit = case when old.opens then 'open' else d.circuit end,
            circuit_opens = d.circuit_opens + old.opens::int,
            circuit_since = case when old.opens then clock_timestamp() else d.circuit_since end,
            circuit_probe_at = case when old.opens
                then clock_timestamp() + (0.8 + 0.4 * random()) * least(d.breaker_cap, d.breaker_base * 2 ^ least(d.circuit_opens, 30))
                else d.circuit_probe_at end
        from (
            select name, breaker_failures > 0
                         and ((circuit = 'closed' and circuit_failures + $2 >= breaker_failures) or (circuit = 'half_open' and $3)) as opens
            from destination
            where name = $1
            for no key update
        ) old
        where d.name = old.name
        returning old.opens as "opens!"
        "#,
        destination,
        i32::from(pulse.failures),
        pulse.probe_failed,
    )
    .fetch_optional(conn)
    .await?;
    Ok(opened.unwrap_or(false))
}

/// The probe was not sent, by our own fault: another may go in a moment.
pub async fn give_probe_back(conn: &mut PgConnection, destination: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update destination set circuit = 'open', circuit_probe_at = clock_timestamp() + interval '5 seconds' where name = $1 and circuit = 'half_open'",
        destination
    )
    .execute(conn)
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::Pulse;

    #[test]
    fn only_failures_after_the_last_answer_count() {
        let mut pulse = Pulse::default();
        for answered in [Some(false), Some(false), Some(true), None, Some(false)] {
            pulse.note(answered, false);
        }
        assert_eq!(pulse, Pulse { answered: true, failures: 1, ..Pulse::default() });
    }

    #[test]
    fn a_probe_without_an_exchange_says_nothing() {
        let mut pulse = Pulse::default();
        pulse.note(None, true);
        assert_eq!(pulse, Pulse { probe_unused: true, ..Pulse::default() });
    }
}
