//! The promises of `docs/guarantees.md`, a file each, against a real PostgreSQL and real HTTP peers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod acts;
mod answers;
mod attempts;
mod bad_input;
mod callbacks;
mod changes;
mod changes_plans;
mod connecting;
mod conventions;
mod corrections;
mod crash;
mod credentials;
mod delivery;
mod demo;
mod edge;
mod egress;
mod events;
mod formats;
mod harness;
mod isolation;
mod lanes;
mod migrations;
mod openapi;
mod peers;
mod pgbouncer;
mod pressure;
mod property;
mod queue;
mod races;
mod reading;
mod reload;
mod retention;
mod sandbox;
mod schemathesis;
mod signing;
mod steering;
mod storm;
mod submission;
mod verdicts;
mod waiting;
mod waiting_many;
mod wakeups;
mod wire;
