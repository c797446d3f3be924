//! A transactional outbox for civil registration: a declaration of a birth, a death or a marriage is accepted in one
//! PostgreSQL transaction that writes the record and one message per consequence; workers deliver the messages, each
//! exactly once in effect.
//!
//! # The life of one submission
//!
//! ```text
//! POST /records
//!   handlers/   who is calling, the transaction id, the body            400 401 403 413 415 503: nothing was written
//!   BEGIN       handlers::transact, the one place of the API that opens a transaction; coalescer lets those that come
//!               at the same time share one
//!     transactions::claim      the id is ours, or its reply is replayed, or it was used otherwise (422)
//!     records::commands        record, version, attachments, actions; model::transition alone says what may happen
//!     outbox::enqueue          a message per consequence and subscribed destination
//!     transactions::save       the reply, for whoever repeats the request; a list of submissions writes all of that in two
//!                              statements (records::store::submission)
//!   COMMIT      202 + Location, and a wake-up
//! ── the tables are the interface: either half runs alone ──
//! workers/
//!   lane        one per destination: claim (one statement, `for no key update skip locked`), start, settle
//!   deliver     render, send, judge
//!   delivery    one exchange over HTTP, no transaction open
//!   settle      fence, attempt row, history row, promotion of the next message, and the answer's effect on the record
//! country config: a verdict in its answer, or 202 and a callback: POST /records/{id}/confirm | /reject
//! ```
//!
//! # Words
//!
//! One word per idea, in SQL, Rust, JSON, logs and metrics alike.
//!
//! | word | meaning |
//! |---|---|
//! | record | the registration of one event |
//! | action | something done to a record: requested, accepted or rejected; append-only |
//! | step | an action or a verdict, as the table of transitions knows it |
//! | transaction id | chosen by the client, one per intention; the key of every dedupe |
//! | attachment | a scanned document, once per digest; its bytes are a blob |
//! | message | one consequence of one action for one destination |
//! | effect | what a destination subscribes to: search, audit, metrics, notification, validation, webhook |
//! | kind | which consequence a message is, for example `DECLARED` |
//! | destination | where messages go |
//! | attempt | one exchange for one message |
//! | lease | what a claim gives: an end and a fencing number, one for all messages that it took |
//! | lane | the claims, open exchanges and settlements of one destination in one process |
//! | position | a message's place in the queue, taken when it becomes ready |
//! | circuit | whether messages flow to a destination: closed, open, half open |
//! | skipped | dead and set aside: later messages of the record go on |
//! | pressure | too much is waiting: submissions are refused |
//! | verdict | what the country says to a requested registration |
//! | opinion | what the country says of any other action, of which it is told (a trigger) |
//! | amendment | what the country adds to a declaration with its acceptance |
//! | change | a hint that a transaction moved, for who sent it |
//! | cursor | where a reader of changes is: a snapshot of database transactions |
//! | settled | nothing of a transaction is outstanding: no delivery, no verdict |
//!
//! # Who may use whom
//!
//! Arrows point down only; `tests/it/conventions.rs` holds them.
//!
//! ```text
//! cli → demo → app, sandbox
//!     → bench → workers and below    (measures `serve` from outside, and the workers alone)
//!       app  → config → serve │ handlers │ workers     (none knows another)
//!                          ↓          ↓
//!                       waiting
//!                          ↓
//!                       records, transactions, auth, wakeup, pressure, coalescer, metrics, json, objects
//!                          ↓
//!                       outbox  (knows no record and no HTTP)
//!                          ↓
//!                       db
//! ```
//!
//! Transactions are opened in `handlers::transact`, in `workers` and on the command line, and nowhere below. Time in
//! rows and in decisions about rows is the database's.

pub mod app;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod coalescer;
pub mod config;
pub mod db;
pub mod demo;
pub mod handlers;
pub mod json;
pub mod metrics;
pub mod objects;
pub mod outbox;
mod periodic;
pub mod pressure;
pub mod records;
pub mod samples;
pub mod sandbox;
pub mod serve;
pub mod transactions;
pub mod waiting;
pub mod wakeup;
pub mod workers;
