//! The domain: what a record may become. Decides *that* something is sent, never how.
//!
//! ```text
//!   notify          declare           validate          register
//!     │                │                 │                  │
//!     ▼                ▼                 ▼                  ▼            confirm
//!  in_progress ──▶ declared ────────▶ validated ──▶ waiting_validation ─────────▶ registered
//!     │                │ ▲               │               │  │ refuse
//!     └────────────────┴─┼───────────────┴── reject ─────┴──┴─▶ rejected ── declare ──▶ declared
//!                        │                                         │
//!                        └── declare (a correction)                └── archive ──▶ archived
//! ```
//!
//! Cast: a *submission* makes a record ([`commands::submit`]); an *act* of a person moves it ([`commands::act`]);
//! a *verdict* of the country decides a requested registration ([`commands::decide`]); its *opinion* may amend or refuse any
//! other action ([`commands::judge`]); a promised callback that
//! does not come is asked for again ([`commands::redeliver`]). [`model::transition`] alone says what may happen. Whatever moves
//! leaves a hint ([`changes`]) for who waits to hear what became of it ([`progress`]).
//!
//! A record that resembles another one stops at `declared` until somebody says that it is no duplicate ([`duplicates`]).
//!
//! Promises: a transaction id is done once, whoever repeats it (P2); a requested registration is decided once,
//! first verdict wins; a registration number names one record and never changes; what is written here and what is
//! queued for it is one transaction, which the caller opens and commits.
//! Not promised: that anything has been delivered when a command returns.
//!
//! Locks are taken in the order `client_transaction`, `record`, `record_duplicate`, `outbox_message`.

pub mod attachments;
pub mod changes;
pub mod commands;
pub mod duplicates;
pub mod effects;
pub mod event_document;
pub mod fhir;
pub mod find;
pub mod model;
pub mod progress;
pub mod queries;
mod store;
pub mod timeline;
mod tracking_id;
pub mod uploads;
