//! The words of the domain, and the one table of what may happen to a record.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a record stands; the same words as the type `record_status` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[schema(as = RecordStatus)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "record_status", rename_all = "snake_case")]
pub enum Status {
    /// Incomplete.
    InProgress,
    /// Complete, for review.
    Declared,
    /// Reviewed, for registration.
    Validated,
    /// The country's verdict is outstanding.
    WaitingValidation,
    /// Registered: has its number.
    Registered,
    /// Sent back with a reason.
    Rejected,
    /// Put away.
    Archived,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::InProgress,
        Self::Declared,
        Self::Validated,
        Self::WaitingValidation,
        Self::Registered,
        Self::Rejected,
        Self::Archived,
    ];

    /// The word in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Declared => "declared",
            Self::Validated => "validated",
            Self::WaitingValidation => "waiting_validation",
            Self::Registered => "registered",
            Self::Rejected => "rejected",
            Self::Archived => "archived",
        }
    }

    /// The code of OpenCRVS's `http://opencrvs.org/specs/reg-status`.
    pub fn reg_status(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Declared => "DECLARED",
            Self::Validated => "VALIDATED",
            Self::WaitingValidation => "WAITING_VALIDATION",
            Self::Registered => "REGISTERED",
            Self::Rejected => "REJECTED",
            Self::Archived => "ARCHIVED",
        }
    }
}

/// What is done to a record; the same words as the type `record_action_kind` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "record_action_kind", rename_all = "snake_case")]
pub enum ActionKind {
    /// Declared incompletely.
    Notify,
    /// Declared, or corrected.
    Declare,
    /// Reviewed.
    Validate,
    /// Registration: requested, then decided by the country.
    Register,
    /// Sent back by a registrar.
    Reject,
    /// Somebody looked and says it is no duplicate.
    MarkNotDuplicate,
    /// Put away.
    Archive,
}

/// Whether an action is done or waits for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "record_action_status", rename_all = "snake_case")]
pub enum ActionStatus {
    /// A verdict is outstanding.
    Requested,
    /// Done.
    Accepted,
    /// Refused by the country.
    Rejected,
}

/// A step of a record's life: an action, or the country's verdict on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Declare incompletely.
    Notify,
    /// Declare, or correct.
    Declare,
    /// Review.
    Validate,
    /// Ask for registration.
    Register,
    /// The country accepts the registration.
    Confirm,
    /// The country rejects the registration.
    Refuse,
    /// A registrar sends it back.
    Reject,
    /// Resume what a possible duplicate held back.
    MarkNotDuplicate,
    /// Put away.
    Archive,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 9] = [
        Self::Notify,
        Self::Declare,
        Self::Validate,
        Self::Register,
        Self::Confirm,
        Self::Refuse,
        Self::Reject,
        Self::MarkNotDuplicate,
        Self::Archive,
    ];

    /// The action and its status that this step appends.
    pub fn appends(self) -> (ActionKind, ActionStatus) {
        match self {
            Self::Notify => (ActionKind::Notify, ActionStatus::Accepted),
            Self::Declare => (ActionKind::Declare, ActionStatus::Accepted),
            Self::Validate => (ActionKind::Validate, ActionStatus::Accepted),
            Self::Register => (ActionKind::Register, ActionStatus::Requested),
            Self::Confirm => (ActionKind::Register, ActionStatus::Accepted),
            Self::Refuse => (ActionKind::Register, ActionStatus::Rejected),
            Self::Reject => (ActionKind::Reject, ActionStatus::Accepted),
            Self::MarkNotDuplicate => (ActionKind::MarkNotDuplicate, ActionStatus::Accepted),
            Self::Archive => (ActionKind::Archive, ActionStatus::Accepted),
        }
    }
}

/// Why a step is not allowed. The text is fit for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The record is incomplete.
    #[error("the record is incomplete: declare it first")]
    Incomplete,
    /// It has been through this step.
    #[error("the record is {} already", .0.as_str())]
    Already(Status),
    /// The country is being asked.
    #[error("the record awaits the country's validation")]
    Awaiting,
    /// Nobody asked the country.
    #[error("no registration of this record awaits a verdict")]
    NotAwaiting,
    /// It was sent back.
    #[error("the record was rejected: send a corrected declaration first")]
    SentBack,
    /// It is registered, for good.
    #[error("the record is registered")]
    Registered,
    /// It is put away, for good.
    #[error("the record is archived")]
    Archived,
    /// Somebody must look at the possible duplicates first.
    #[error("the record is held as a possible duplicate: mark it as not duplicate first")]
    Held,
    /// Nothing is held back.
    #[error("the record is not held as a possible duplicate")]
    NotHeld,
}

/// The status of a new record after its first step.
pub fn first(step: Step) -> Result<Status, Refused> {
    match step {
        Step::Notify => Ok(Status::InProgress),
        Step::Declare => Ok(Status::Declared),
        Step::Validate => Ok(Status::Validated),
        Step::Register => Ok(Status::WaitingValidation),
        Step::Confirm | Step::Refuse => Err(Refused::NotAwaiting),
        Step::Reject | Step::Archive => Err(Refused::Incomplete),
        Step::MarkNotDuplicate => Err(Refused::NotHeld),
    }
}

/// The status of a record after a step, or why the step is not allowed. Pure: this is the only place that decides.
///
/// `held` is the step that a possible duplicate holds back; a record with one is `declared`.
pub fn transition(status: Status, held: Option<Step>, step: Step) -> Result<Status, Refused> {
    match status {
        Status::InProgress => from_in_progress(step),
        Status::Declared => from_declared(held, step),
        Status::Validated => from_validated(step),
        Status::WaitingValidation => from_waiting(step),
        Status::Rejected => from_rejected(step),
        Status::Registered => Err(match step {
            Step::MarkNotDuplicate => Refused::NotHeld,
            Step::Confirm | Step::Refuse => Refused::NotAwaiting,
            Step::Register => Refused::Already(status),
            Step::Notify | Step::Declare | Step::Validate | Step::Reject | Step::Archive => Refused::Registered,
        }),
        Status::Archived => Err(match step {
            Step::MarkNotDuplicate => Refused::NotHeld,
            Step::Confirm | Step::Refuse => Refused::NotAwaiting,
            Step::Archive => Refused::Already(status),
            Step::Notify | Step::Declare | Step::Validate | Step::Register | Step::Reject => Refused::Archived,
        }),
    }
}

fn from_in_progress(step: Step) -> Result<Status, Refused> {
    match step {
        Step::Notify => Ok(Status::InProgress),
        Step::Declare => Ok(Status::Declared),
        Step::Reject => Ok(Status::Rejected),
        Step::Archive => Ok(Status::Archived),
        Step::Validate | Step::Register => Err(Refused::Incomplete),
        Step::Confirm | Step::Refuse => Err(Refused::NotAwaiting),
        Step::MarkNotDuplicate => Err(Refused::NotHeld),
    }
}

fn from_declared(held: Option<Step>, step: Step) -> Result<Status, Refused> {
    match (step, held) {
        (Step::Declare, _) => Ok(Status::Declared),
        (Step::Reject, _) => Ok(Status::Rejected),
        (Step::Archive, _) => Ok(Status::Archived),
        (Step::Validate | Step::Register, Some(_)) => Err(Refused::Held),
        (Step::Validate, None) => Ok(Status::Validated),
        (Step::Register, None) => Ok(Status::WaitingValidation),
        (Step::MarkNotDuplicate, Some(resumed)) => first(resumed),
        (Step::MarkNotDuplicate, None) => Err(Refused::NotHeld),
        (Step::Confirm | Step::Refuse, _) => Err(Refused::NotAwaiting),
        (Step::Notify, _) => Err(Refused::Already(Status::Declared)),
    }
}

fn from_validated(step: Step) -> Result<Status, Refused> {
    match step {
        Step::Declare => Ok(Status::Declared),
        Step::Register => Ok(Status::WaitingValidation),
        Step::Reject => Ok(Status::Rejected),
        Step::Archive => Ok(Status::Archived),
        Step::Notify | Step::Validate => Err(Refused::Already(Status::Validated)),
        Step::Confirm | Step::Refuse => Err(Refused::NotAwaiting),
        Step::MarkNotDuplicate => Err(Refused::NotHeld),
    }
}

/// A correction or a registrar's rejection supersedes the registration that was asked for; its verdict then comes too late.
fn from_waiting(step: Step) -> Result<Status, Refused> {
    match step {
        Step::Confirm => Ok(Status::Registered),
        Step::Refuse | Step::Reject => Ok(Status::Rejected),
        Step::Declare => Ok(Status::Declared),
        Step::Notify | Step::Validate | Step::Register | Step::Archive => Err(Refused::Awaiting),
        Step::MarkNotDuplicate => Err(Refused::NotHeld),
    }
}

fn from_rejected(step: Step) -> Result<Status, Refused> {
    match step {
        Step::Notify => Ok(Status::InProgress),
        Step::Declare => Ok(Status::Declared),
        Step::Archive => Ok(Status::Archived),
        Step::Validate | Step::Register => Err(Refused::SentBack),
        Step::Reject => Err(Refused::Already(Status::Rejected)),
        Step::Confirm | Step::Refuse => Err(Refused::NotAwaiting),
        Step::MarkNotDuplicate => Err(Refused::NotHeld),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: statuses in the order of `Status::ALL`; columns: steps in the order of `Step::ALL`.
    /// A letter is the next status, a dot a refusal.
    const TABLE: [&str; 7] = [
        // Notify Declare Validate Register Confirm Refuse Reject MarkNotDuplicate Archive
        "I D . . . . J . A", // in_progress
        ". D V W . . J . A", // declared
        ". D . W . . J . A", // validated
        ". D . . R J J . .", // waiting_validation
        ". . . . . . . . .", // registered
        "I D . . . . . . A", // rejected
        ". . . . . . . . .", // archived
    ];

    fn letter(status: Status) -> &'static str {
        match status {
            Status::InProgress => "I",
            Status::Declared => "D",
            Status::Validated => "V",
            Status::WaitingValidation => "W",
            Status::Registered => "R",
            Status::Rejected => "J",
            Status::Archived => "A",
        }
    }

    #[test]
    fn every_status_and_every_step_follow_the_table() {
        for (status, row) in Status::ALL.into_iter().zip(TABLE) {
            for (step, expected) in Step::ALL.into_iter().zip(row.split(' ')) {
                let next = transition(status, None, step).map_or(".", letter);
                assert_eq!(next, expected, "{status:?} {step:?}");
            }
        }
    }

    #[test]
    fn a_held_record_goes_on_only_when_marked_as_not_duplicate() {
        for held in [Step::Declare, Step::Validate, Step::Register] {
            let at = |step| transition(Status::Declared, Some(held), step);
            assert_eq!(at(Step::MarkNotDuplicate), first(held));
            assert_eq!(at(Step::Validate), Err(Refused::Held));
            assert_eq!(at(Step::Register), Err(Refused::Held));
            assert_eq!(at(Step::Declare), Ok(Status::Declared));
            assert_eq!(at(Step::Reject), Ok(Status::Rejected));
            assert_eq!(at(Step::Archive), Ok(Status::Archived));
            assert_eq!(at(Step::Confirm), Err(Refused::NotAwaiting));
        }
    }

    #[test]
    fn a_record_begins_with_a_declaration() {
        for step in Step::ALL {
            let begins = matches!(step, Step::Notify | Step::Declare | Step::Validate | Step::Register);
            assert_eq!(first(step).is_ok(), begins, "{step:?}");
        }
    }

    #[test]
    fn nothing_leaves_registered_or_archived() {
        for status in [Status::Registered, Status::Archived] {
            assert!(Step::ALL.into_iter().all(|step| transition(status, None, step).is_err()));
        }
    }
}
