//! Tokens that are shared among uses that are alike, while at least half of their life is left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most tokens that are kept.
const MAX_KEPT: usize = 10_000;

/// What a token is good for. Uses that are equal may share one.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Use {
    pub(super) initiator: String,
    pub(super) scopes: Vec<String>,
    pub(super) audience: String,
}

/// The tokens that are kept. Tokens are signed elsewhere, so the lock is held for a look-up or an
/// insertion only; two callers may sign for the same use, which costs a millisecond and no more.
#[derive(Default)]
pub(super) struct SharedTokens(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    tokens: HashMap<Use, Token>,
    sweep_at: u64,
}

struct Token {
    text: Arc<str>,
    issued_at: u64,
    share_until: u64,
}

impl SharedTokens {
    /// A token for this use with at least half of its life left; `now` in seconds since 1970.
    pub(super) fn get(&self, wanted: &Use, now: u64) -> Option<Arc<str>> {
        let kept = self.lock();
        let token = kept.tokens.get(wanted)?;
        token.is_shared_at(now).then(|| Arc::clone(&token.text))
    }

    /// Keeps a token issued `now` that lives for `ttl` seconds, when there is room for it.
    pub(super) fn put(&self, good_for: Use, text: Arc<str>, now: u64, ttl: u64) {
        let mut kept = self.lock();
        if kept.tokens.len() >= MAX_KEPT || now >= kept.sweep_at {
            kept.tokens.retain(|_, token| token.is_shared_at(now));
            kept.sweep_at = now + ttl;
        }
        if kept.tokens.len() < MAX_KEPT {
            let token = Token { text, issued_at: now, share_until: now + ttl / 2 };
            kept.tokens.insert(good_for, token);
        }
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is still whole.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    /// Not before its own time either, in case the clock was set back.
    fn is_shared_at(&self, now: u64) -> bool {
        (self.issued_at..=self.share_until).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn use_of(initiator: &str, scope: &str, audience: &str) -> Use {
        Use { initiator: initiator.to_owned(), scopes: vec![scope.to_owned()], audience: audience.to_owned() }
    }

    #[test]
    fn a_token_is_shared_until_half_of_its_life_is_over() {
        let shared = SharedTokens::default();
        shared.put(use_of("u", "s", "a"), "t".into(), NOW, 60);
        for (time, found) in [(0, true), (30, true), (31, false), (61, false)] {
            let token = shared.get(&use_of("u", "s", "a"), NOW + time);
            assert_eq!(token.is_some(), found, "{time}");
        }
        assert!(shared.get(&use_of("u", "s", "a"), NOW - 1).is_none());
    }

    #[test]
    fn only_equal_uses_share_a_token() {
        let shared = SharedTokens::default();
        shared.put(use_of("u", "s", "a"), "t".into(), NOW, 60);
        for other in [use_of("v", "s", "a"), use_of("u", "r", "a"), use_of("u", "s", "b")] {
            assert!(shared.get(&other, NOW).is_none());
        }
    }

    #[test]
    fn used_up_tokens_are_dropped_and_their_number_is_bounded() {
        let shared = SharedTokens::default();
        for number in 0..=MAX_KEPT {
            shared.put(use_of(&number.to_string(), "s", "a"), "t".into(), NOW, 60);
        }
        assert_eq!(shared.lock().tokens.len(), MAX_KEPT);
        shared.put(use_of("late", "s", "a"), "t".into(), NOW + 31, 60);
        assert_eq!(shared.lock().tokens.len(), 1);
    }
}
