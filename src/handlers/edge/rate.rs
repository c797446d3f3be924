//! How many requests one principal may make: a token bucket each (GCRA), in this process only.
//!
//! Memory is bounded: of a principal nothing is kept but a hash and the time until which its bucket is not full, and
//! full buckets are forgotten. If more principals than [`REMEMBERED`] are active, the others are not limited.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::Principal;

/// Buckets that are remembered at a time.
const REMEMBERED: usize = 100_000;

/// Full buckets are looked for at most so often.
const SWEEP: Duration = Duration::from_secs(1);

/// The buckets.
pub(super) struct Rates {
    each: Duration,
    burst: u32,
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    /// Principal to when its bucket is full again.
    full: HashMap<u64, Instant>,
    swept: Instant,
}

/// What a principal may still do after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) burst: u32,
    /// Seconds in which an empty bucket fills.
    pub(super) window: u64,
    pub(super) remaining: u32,
    /// Seconds until there is one more; 0 if the bucket is full.
    pub(super) next: u64,
    pub(super) admitted: bool,
}

impl Rates {
    /// `None` without a limit.
    pub(super) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let each = Duration::from_secs(1).checked_div(per_second)?;
        let buckets = Mutex::new(Buckets { full: HashMap::new(), swept: Instant::now() });
        Some(Self { each, burst, hasher: RandomState::new(), buckets })
    }

    /// Takes one request of a principal's bucket, if there is one.
    pub(super) fn take(&self, principal: &Principal, now: Instant) -> Standing {
        let key = self.hasher.hash_one((&principal.issuer, &principal.id));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = buckets.full.get(&key).copied().unwrap_or(now).max(now);
        let after = full + self.each;
        let capacity = self.each * self.burst;
        let used = after.saturating_duration_since(now);
        if let Some(wait) = used.checked_sub(capacity).filter(|wait| !wait.is_zero()) {
            return self.standing(used, Some(wait));
        }
        buckets.remember(key, after, now);
        self.standing(used, None)
    }

    fn standing(&self, used: Duration, refused: Option<Duration>) -> Standing {
        let each = self.each.as_nanos().max(1);
        let taken = u32::try_from(used.as_nanos().div_ceil(each)).unwrap_or(u32::MAX);
        let seconds = |d: Duration| d.as_secs() + u64::from(d.subsec_nanos() > 0);
        let next = match refused {
            Some(wait) => seconds(wait).max(1),
            None => seconds(used.min(self.each)),
        };
        let remaining = if refused.is_some() { 0 } else { self.burst.saturating_sub(taken) };
        let window = seconds(self.each * self.burst).max(1);
        Standing { burst: self.burst, window, remaining, next, admitted: refused.is_none() }
    }
}

impl Buckets {
    fn remember(&mut self, key: u64, full: Instant, now: Instant) {
        if self.full.len() >= REMEMBERED && now.saturating_duration_since(self.swept) >= SWEEP {
            self.full.retain(|_, full| *full > now);
            self.swept = now;
        }
        if self.full.len() < REMEMBERED || self.full.contains_key(&key) {
            self.full.insert(key, full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn principal(id: &str) -> Principal {
        Principal { id: id.to_owned(), issuer: "i".to_owned(), scopes: Scopes::default(), record: None, expires_at: 0 }
    }

    #[test]
    fn a_burst_is_admitted_then_the_rate_and_others_are_not_touched() {
        let rates = Rates::new(2, 3).unwrap();
        let now = Instant::now();
        let take = |id: &str, ms: u64| rates.take(&principal(id), now + Duration::from_millis(ms));
        let remaining: Vec<u32> = (0..3).map(|_| take("a", 0).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = take("a", 0);
        assert_eq!(refused, Standing { burst: 3, window: 2, remaining: 0, next: 1, admitted: false });
        assert!(take("b", 0).admitted);
        assert!(!take("a", 499).admitted);
        assert!(take("a", 500).admitted && !take("a", 500).admitted);
        assert_eq!(take("a", 60_000).remaining, 2);
        assert!(Rates::new(0, 3).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let rates = Rates::new(1, 1).unwrap();
        let now = Instant::now();
        for n in 0..REMEMBERED + 10 {
            rates.take(&principal(&n.to_string()), now);
        }
        assert_eq!(rates.buckets.lock().unwrap().full.len(), REMEMBERED);
        rates.take(&principal("later"), now + Duration::from_secs(5));
        assert_eq!(rates.buckets.lock().unwrap().full.len(), 1);
    }
}
