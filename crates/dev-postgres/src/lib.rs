//! A private PostgreSQL cluster under one folder, for the demo, for `--embedded` and for tests.
//!
//! What it promises:
//!
//! * The server is real: the programs installed on the machine, with `fsync` on.
//! * It is private: no TCP port, no password, only a Unix socket in a folder of mode 0700.
//! * It has one owner. A second [`Cluster`] on the same folder is refused with the owner's pid.
//! * It stops with its owner, even with an owner that was killed with SIGKILL.
//! * It starts again after any crash of the owner, of the server or of the machine.
//!
//! What it does not promise: it installs nothing, upgrades no data between major versions of
//! PostgreSQL, makes no backup, and is not for production.

mod address;
mod binaries;
mod cluster;
mod error;
mod folder;
mod guard;
mod initdb;
mod leftovers;
mod poll;
mod processes;
mod user;

pub use binaries::bin_dirs;
pub use cluster::{Cluster, Options};
pub use error::ClusterError;
