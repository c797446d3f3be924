//! When to try again: pure functions of the answer, the attempt and a random number.
//!
//! | answer | decision |
//! |---|---|
//! | 2xx | delivered |
//! | none (connect, TLS, timeout, broken answer), 408, 425, 429, 5xx | retry |
//! | 401, 409 | retry for 15 minutes without a break, then dead |
//! | 410 | given back unburnt; whoever settles it pauses the destination |
//! | any other | dead at once |
//!
//! A destination's own `retry_on` and `dead_on` come first, for any answer but 2xx.
//!
//! The delay before attempt n + 1 is uniform in 0 ..= min(cap, base · 2^(n-1)) ("full jitter"): 1 s doubling
//! to 15 min by default. `Retry-After` can only ever delay: the longer of the two is taken, up to an hour.

use std::time::Duration;

use super::complete::Outcome;

/// How a destination is retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of any delay.
    pub cap: Duration,
    /// Attempts after which a message is dead; `None`: for ever.
    pub max_attempts: Option<u32>,
    /// How long 401 and 409 are retried.
    pub refusal_patience: Duration,
    /// Statuses that are retried here, whatever the table says.
    pub retry_on: Vec<u16>,
    /// Statuses that are final here, whatever the table says.
    pub dead_on: Vec<u16>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_mins(15),
            max_attempts: None,
            refusal_patience: Duration::from_mins(15),
            retry_on: Vec::new(),
            dead_on: Vec::new(),
        }
    }
}

/// The longest delay that a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// "This endpoint is gone": the destination is paused, its messages wait unburnt.
pub const GONE: u16 = 410;
/// It is not due again before whoever got it has paused the destination, in every instance's sight.
const GONE_PAUSE: Duration = Duration::from_secs(5);

/// What came of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A whole answer with this status.
    Status {
        /// HTTP status code.
        code: u16,
        /// The answer's `Retry-After`, if any.
        retry_after: Option<Duration>,
    },
    /// None: the connection failed, the deadline passed, or the answer was broken.
    Transport,
}

/// Decides what becomes of a message.
///
/// `attempt` counts from 1; `refused_for` is how long the destination has answered 401 or 409 without a break
/// (`None` if this is the first); `jitter` is uniform in `0.0..1.0`.
pub fn decide(policy: &Policy, answer: Answer, attempt: u32, refused_for: Option<Duration>, jitter: f64) -> Outcome {
    let hint = match answer {
        Answer::Status { code: 200..=299, .. } => return Outcome::Delivered,
        Answer::Status { code, .. } if policy.dead_on.contains(&code) => return Outcome::Dead,
        Answer::Status { code, retry_after } if policy.retry_on.contains(&code) => retry_after,
        Answer::Status { code: GONE, .. } => return Outcome::Released(GONE_PAUSE),
        Answer::Status { code: 401 | 409, retry_after } => {
            if refused_for.unwrap_or_default() >= policy.refusal_patience {
                return Outcome::Dead;
            }
            retry_after
        }
        Answer::Status { code: 408 | 425 | 429 | 500..=599, retry_after } => retry_after,
        Answer::Status { .. } => return Outcome::Dead,
        Answer::Transport => None,
    };
    if policy.max_attempts.is_some_and(|max| attempt >= max) {
        return Outcome::Dead;
    }
    let wait = backoff(policy, attempt).mul_f64(jitter.clamp(0.0, 1.0));
    Outcome::Retry(wait.max(hint.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

/// Whether an answer is a refusal that may pass: the peer may not know our key yet, or works on the twin.
pub fn is_refusal(answer: Answer) -> bool {
    matches!(answer, Answer::Status { code: 401 | 409, .. })
}

/// Whether an exchange speaks for the destination's health: any whole answer but 5xx does.
pub fn is_healthy(answer: Answer) -> bool {
    !matches!(answer, Answer::Transport | Answer::Status { code: 500..=599, .. })
}

/// Upper bound of the delay after the given attempt.
fn backoff(policy: &Policy, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    policy.base.saturating_mul(1 << doublings).min(policy.cap)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_policy() -> impl Strategy<Value = Policy> {
        (1_u64..100_000, 0_u64..10_000_000).prop_map(|(base, more)| Policy {
            base: Duration::from_millis(base),
            cap: Duration::from_millis(base + more),
            ..Policy::default()
        })
    }

    proptest! {
        /// 0 ..= min(cap, base · 2^(attempt-1)), whatever the random number.
        #[test]
        fn the_delay_stays_within_its_bounds(policy in any_policy(), attempt in 1_u32.., jitter in 0.0..1.0_f64) {
            let Outcome::Retry(delay) = decide(&policy, Answer::Transport, attempt, None, jitter) else {
                return Err(TestCaseError::fail("not retried"));
            };
            let bound = policy.base.checked_mul(2_u32.saturating_pow(attempt - 1)).map_or(policy.cap, |b| b.min(policy.cap));
            prop_assert!(delay <= bound, "{delay:?} > {bound:?}");
        }

        #[test]
        fn the_whole_of_the_interval_is_used(policy in any_policy(), attempt in 1_u32..64) {
            let at = |jitter| decide(&policy, Answer::Transport, attempt, None, jitter);
            prop_assert_eq!(at(0.0), Outcome::Retry(Duration::ZERO));
            prop_assert!(matches!(at(1.0), Outcome::Retry(d) if d >= policy.base.min(policy.cap)));
        }

        /// A hint changes neither whether a message is retried nor how often, and never brings an attempt forward.
        #[test]
        fn retry_after_only_delays(
            policy in any_policy(), attempt in 1_u32..200, jitter in 0.0..1.0_f64, secs in any::<u64>(),
            code in prop::sample::select(vec![401_u16, 408, 409, 425, 429, 500, 502, 503, 504]),
            max_attempts in prop::option::of(1_u32..200),
        ) {
            let policy = Policy { max_attempts, ..policy };
            let with = |hint: Option<u64>| {
                let answer = Answer::Status { code, retry_after: hint.map(Duration::from_secs) };
                decide(&policy, answer, attempt, None, jitter)
            };
            match (with(None), with(Some(secs))) {
                (Outcome::Retry(plain), Outcome::Retry(hinted)) => {
                    prop_assert!(hinted >= plain);
                    prop_assert!(hinted >= Duration::from_secs(secs).min(RETRY_AFTER_MAX));
                    prop_assert!(hinted <= plain.max(RETRY_AFTER_MAX));
                }
                (plain, hinted) => prop_assert_eq!(plain, hinted),
            }
        }
    }

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: None }
    }

    #[test]
    fn the_table_of_answers_is_kept() {
        let policy = Policy::default();
        for code in 100..=599 {
            let outcome = decide(&policy, status(code), 1, None, 0.5);
            match code {
                200..=299 => assert_eq!(outcome, Outcome::Delivered, "{code}"),
                401 | 408 | 409 | 425 | 429 | 500..=599 => {
                    assert_eq!(outcome, Outcome::Retry(Duration::from_millis(500)), "{code}");
                }
                410 => assert_eq!(outcome, Outcome::Released(GONE_PAUSE)),
                _ => assert_eq!(outcome, Outcome::Dead, "{code}"),
            }
        }
        assert_eq!(decide(&policy, Answer::Transport, 1, None, 1.0), Outcome::Retry(Duration::from_secs(1)));
    }

    #[test]
    fn the_delay_doubles_to_its_cap_and_never_ends_by_default() {
        let policy = Policy::default();
        let at = |attempt| decide(&policy, status(503), attempt, None, 1.0);
        assert_eq!(at(1), Outcome::Retry(Duration::from_secs(1)));
        assert_eq!(at(4), Outcome::Retry(Duration::from_secs(8)));
        assert_eq!(at(10), Outcome::Retry(Duration::from_secs(512)));
        assert_eq!(at(11), Outcome::Retry(Duration::from_mins(15)));
        assert_eq!(at(u32::MAX), Outcome::Retry(Duration::from_mins(15)));
    }

    #[test]
    fn retry_after_only_ever_delays_and_at_most_an_hour() {
        let policy = Policy::default();
        let with = |secs, jitter| {
            let answer = Answer::Status { code: 429, retry_after: Some(Duration::from_secs(secs)) };
            decide(&policy, answer, 5, None, jitter)
        };
        assert_eq!(with(2, 1.0), Outcome::Retry(Duration::from_secs(16)));
        assert_eq!(with(120, 0.1), Outcome::Retry(Duration::from_mins(2)));
        assert_eq!(with(1_000_000, 0.1), Outcome::Retry(Duration::from_hours(1)));
    }

    #[test]
    fn a_refusal_is_retried_for_fifteen_minutes_and_then_dead() {
        let policy = Policy::default();
        for code in [401, 409] {
            let after = |mins| decide(&policy, status(code), 9, Some(Duration::from_mins(mins)), 0.0);
            assert_eq!(after(14), Outcome::Retry(Duration::ZERO));
            assert_eq!(after(15), Outcome::Dead);
            assert!(is_refusal(status(code)));
        }
        assert!(!is_refusal(status(500)));
    }

    #[test]
    fn a_destination_may_say_what_its_answers_mean() {
        let policy = Policy { retry_on: vec![404, 410], dead_on: vec![501, 200], ..Policy::default() };
        let of = |code| decide(&policy, status(code), 1, None, 0.0);
        assert_eq!([of(404), of(410)], [Outcome::Retry(Duration::ZERO), Outcome::Retry(Duration::ZERO)]);
        assert_eq!([of(501), of(200)], [Outcome::Dead, Outcome::Delivered]);
    }

    #[test]
    fn any_whole_answer_but_a_server_error_speaks_for_the_destination() {
        assert!([200, 400, 404, 429, 499].into_iter().all(|code| is_healthy(status(code))));
        assert!([500, 503, 599].into_iter().all(|code| !is_healthy(status(code))));
        assert!(!is_healthy(Answer::Transport));
    }

    #[test]
    fn the_last_allowed_attempt_is_the_last() {
        let policy = Policy { max_attempts: Some(3), ..Policy::default() };
        assert!(matches!(decide(&policy, status(500), 2, None, 0.0), Outcome::Retry(_)));
        assert_eq!(decide(&policy, status(500), 3, None, 0.0), Outcome::Dead);
    }
}
