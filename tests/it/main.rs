//! The promises of `docs/guarantees.md`, a file each, against a real PostgreSQL and real HTTP peers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_input;
mod crash;
mod delivery;
mod harness;
mod property;
mod queue;
mod submission;
mod verdicts;
