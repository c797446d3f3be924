//! The promises of `docs/guarantees.md`, a file each, against a real PostgreSQL and real HTTP peers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::large_futures, reason = "a test's future is boxed by nobody and nobody minds")]

mod harness;
mod submission;
