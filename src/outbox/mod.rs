//! The queue: moves messages between states. Knows no record and no HTTP.
//!
//! ```text
//!            enqueue                claim                 complete (fenced)
//!  (none) ───────────▶ queued ───────────────▶ delivering ───────────────▶ delivered  (outbox_history)
//!     │                   ▲                     │  │  │
//!     │ a predecessor is  │ promote             │  │  └── complete ─▶ dead      rests, holds its successors
//!     │ unfinished        │                     │  └───── complete ─▶ retrying ─▶ (claim when due)
//!     └────────────────▶ blocked                └──────── rescue ───▶ retrying | dead
//! ```
//!
//! | who | moves |
//! |---|---|
//! | `enqueue`, inside the transaction of the domain; for new records the statement that writes them, as `enqueue::place` says | nothing → `queued` or `blocked` |
//! | `claim`, by a lane | `queued`, due `retrying` → `delivering`, with a new fencing number for all that it takes, written down in `outbox_claim` |
//! | `complete`, by the holder of that number | `delivering` → `delivered`, `retrying`, `dead`, or back as if never claimed |
//! | `complete`, `rescue`, in the same transaction | the next `blocked` → `queued` |
//! | `rescue`, by any instance | `delivering` of a dead or late worker → `retrying`, or `dead` past the limit |
//! | `operate`, by an operator (in SQL) | `dead` → `queued`, or `blocked` if it was set aside; whatever nobody holds → `cancelled` |
//!
//! A destination has a state of its own: `breaker` (by a lane) and `claim` move its circuit, `claim` spends its rate,
//! `operate` and `destination::pause` (410) its pause.
//!
//! Promises: a message is delivered at least once and its id never changes (P4); the messages of one
//! record reach one destination in order (P5), held by a unique index and not by the claim; a worker
//! that lost its lease moves nothing (P6); a message leaves the live table only as `delivered` or
//! `cancelled`, with a row in `outbox_history` (P3).
//! Not promised: order between records or between destinations; exactly one exchange on the wire.
//!
//! Locks are taken in the order of ids. Time is the database's.
//!
//! Statements are planned for a connection, most often while the queue is empty, and have to be good for a million: what is
//! joined with the messages is looked up by `id = any (array[…])`. A plain `=` can be turned around: all messages, each
//! compared with each that is looked for, is as cheap as one look-up where none are believed to be there.

pub mod breaker;
pub mod claim;
pub mod complete;
pub mod destination;
pub mod enqueue;
pub mod history;
pub mod inspect;
pub mod message;
pub mod operate;
pub mod partitions;
pub mod pressure;
mod promote;
pub mod rescue;
pub mod retry;
pub mod worker;

pub use message::{Claimed, Effect, MessageState, NewMessage, Queued};
