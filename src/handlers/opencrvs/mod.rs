//! The endpoints of OpenCRVS that its country configs and clients call, so that they work against this service with
//! nothing changed but their URLs.
//!
//! | endpoint | called by | in |
//! |---|---|---|
//! | `POST /graphql`: `confirmRegistration`, `rejectRegistration` | country configs of 1.7, 1.8 and the queue's branch | [`graphql`] |
//! | `POST /graphql`: `create…Registration`, `fetchRecordStatus` | clients of the queue's branch | [`graphql`] |
//! | `POST /confirm/registration` | country configs of 1.6 | [`confirm`] |
//! | `POST /events/event.actions.{action}.{accept\|reject}` | country configs of 1.9 and 2.0 | [`trpc`] |
//! | `GET /events/locations.list` | country configs of 1.9 and 2.0 | [`trpc`] |
//!
//! Promises: these are other spellings of what the rest of the API does, with the same commands, rights and rules, and no
//! rule of their own; an answer has the status and the form that make such a peer do the right thing, which is to send
//! again what was not written and nothing else. Members that are not known here are ignored, since peers are of many
//! versions, and an `Idempotency-Key`, a `Host` and other headers that they copy from our own requests mean nothing.
//!
//! Not promised: anything else that these services of OpenCRVS do.

pub(super) mod confirm;
pub(super) mod graphql;
pub(super) mod trpc;
mod verdict;

pub use trpc::Location;

/// How much of OpenCRVS is there.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether the GraphQL schema may be asked for.
    pub introspection: bool,
    /// What `locations.list` says.
    pub locations: Vec<Location>,
}
