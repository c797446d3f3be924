//! What can be done to records. Every function works in the caller's transaction and neither commits nor
//! rolls back: on an error the caller must roll back, and then nothing happened.

mod act;
mod amend;
mod decide;
mod judge;
mod redeliver;
mod reply;
mod submit;

use std::borrow::Cow;

pub use act::{Access, Act, act};
pub use amend::Amendment;
pub use decide::{
    Answer, Decision, NUMBER_MAX, REASON_MAX, Standing, Verdict, decide, is_reason, is_registration_number,
    receive_answer,
};
pub use judge::{Judgement, Opinion, judge, receive_opinion};
pub use redeliver::{count_overdue, overdue, redeliver};
pub use reply::{DeliveryView, RecordView, TransactionView};
pub use submit::{Submission, submit};

use super::fhir::DeclarationError;
use super::model::Refused;
use crate::transactions::Reply;

/// Who acts: never a token (P7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// The token's subject.
    pub id: String,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
}

/// What became of a request that carries a transaction id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done now.
    Done(Reply),
    /// Done before: the same reply.
    Replayed(Reply),
    /// The transaction id was used for something else or by somebody else.
    Reused,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such record, or the caller may not know of it.
    #[error("no such record")]
    NotFound,
    /// The record's status does not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another verdict stands.
    #[error("another verdict on this registration stands")]
    AlreadyDecided,
    /// The action was superseded by a correction or a rejection.
    #[error("this registration was superseded")]
    Superseded,
    /// Another record has this registration number.
    #[error("the registration number belongs to another record")]
    NumberTaken,
    /// The tracking id is not that of the record.
    #[error("the tracking id is not that of the record")]
    WrongTrackingId,
    /// The declaration cannot be stamped.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// An attachment that is referred to is not there, or not any more.
    #[error("no such attachment, or not for you")]
    UnknownAttachment {
        /// Where it is referred to: a JSON pointer into the request's body.
        pointer: String,
    },
    /// No free tracking id was found.
    #[error("no free tracking id was found")]
    NoTrackingId,
    /// The reply could not be written as JSON.
    #[error("the reply could not be written")]
    Reply(#[from] serde_json::Error),
    /// An item of a list that was given up. If it was written after all, it is replayed when it is sent again.
    #[error("the list was given up")]
    NotTried,
    /// The database failed, or a lock was not granted in time.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl CommandError {
    /// The database's code of what failed (SQLSTATE), if it said one. Its text can quote a row.
    pub fn code(&self) -> Option<Cow<'_, str>> {
        let Self::Database(error) = self else {
            return None;
        };
        error.as_database_error().and_then(sqlx::error::DatabaseError::code)
    }

    /// Whether the database is not there for anybody at the moment, so that trying something else is no use.
    pub fn is_outage(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        let connectionless = matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        connectionless || code.is_some_and(|c| c.starts_with("57") || c.starts_with("53"))
    }

    /// Whether a lock was not granted in time or a deadlock was broken: nothing is wrong with the request.
    pub fn is_contention(&self) -> bool {
        let Self::Database(sqlx::Error::Database(e)) = self else {
            return matches!(self, Self::Database(sqlx::Error::RowNotFound));
        };
        matches!(e.code().as_deref(), Some("55P03" | "40P01" | "40001"))
    }
}
