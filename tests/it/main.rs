//! The promises of `docs/guarantees.md`, a file each, against a real PostgreSQL and real HTTP peers.

mod harness;
mod submission;
