//! P2, P3, P5 and P6 under random interleavings: submit, repeat, confirm, reject, correct, claim, settle, worker crash,
//! lease expiry, and settlements that come too late. After each step the invariants of the tables hold and the model
//! agrees; at the end everything is drained, and what was delivered is the set that the model computed by hand.

mod inputs;
mod model;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::world::World;

/// One step. Numbers choose among what is there; a step that finds nothing to do does nothing.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends the registration of declaration `n`; the second time it is a repetition.
    Submit { n: u8 },
    /// The same transaction id with other content, or from another user.
    Misuse { n: u8, other_user: bool },
    /// The country calls back with one of two numbers.
    Confirm { n: u8, number: u8 },
    /// The country calls back with a rejection.
    Refuse { n: u8 },
    /// A registrar corrects the declaration.
    Correct { n: u8 },
    /// A registrar asks for registration again.
    Register { n: u8 },
    /// A worker claims up to three messages of a destination.
    Claim { worker: u8, destination: u8 },
    /// A worker settles one of those that it believes to hold.
    Settle { worker: u8, which: u8, how: How },
    /// A worker dies; what it held, it goes on believing to hold.
    Crash { worker: u8 },
    /// The hard end of every lease passes.
    Expire,
    /// Lost leases are taken back.
    Rescue,
}

/// What a worker says of a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Delivered,
    Retry,
    Dead,
    Released,
    /// The answer is a verdict (for the country config; otherwise as delivered).
    Accepts(u8),
    Rejects,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Delivered),
        2 => Just(How::Retry),
        1 => Just(How::Dead),
        1 => Just(How::Released),
        2 => (0..2u8).prop_map(How::Accepts),
        1 => Just(How::Rejects),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..3u8;
    let worker = || 0..2u8;
    prop_oneof![
        4 => n().prop_map(|n| Step::Submit { n }),
        1 => (n(), any::<bool>()).prop_map(|(n, other_user)| Step::Misuse { n, other_user }),
        2 => (n(), 0..2u8).prop_map(|(n, number)| Step::Confirm { n, number }),
        1 => n().prop_map(|n| Step::Refuse { n }),
        1 => n().prop_map(|n| Step::Correct { n }),
        1 => n().prop_map(|n| Step::Register { n }),
        8 => (worker(), 0..5u8).prop_map(|(worker, destination)| Step::Claim { worker, destination }),
        8 => (worker(), any::<u8>(), how()).prop_map(|(worker, which, how)| Step::Settle { worker, which, how }),
        1 => worker().prop_map(|worker| Step::Crash { worker }),
        1 => Just(Step::Expire),
        2 => Just(Step::Rescue),
    ]
}

#[test]
fn no_interleaving_loses_doubles_or_reorders_anything() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&prop::collection::vec(step(), 10..60), |steps| {
            runtime.block_on(play(&steps)).map_err(TestCaseError::fail)
        })
        .unwrap();
}

async fn play(steps: &[Step]) -> Result<(), String> {
    let mut world = World::new().await;
    let mut played = Ok(());
    for step in steps {
        played = world.take(step).await;
        if played.is_err() {
            break;
        }
    }
    if played.is_ok() {
        played = world.drain_and_compare().await;
    }
    world.close().await;
    played
}
