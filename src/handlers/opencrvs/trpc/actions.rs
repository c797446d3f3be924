//! The verdict on a requested action, with the rules of OpenCRVS's events service.
//!
//! | | nothing stands | accepted | rejected |
//! |---|---|---|---|
//! | accept | accepted | 200, and nothing changes | 400 |
//! | reject | rejected | 400 | 200, and nothing changes |
//!
//! The action that was requested is the key of the dedupe: the `transactionId` of an input is the peer's own, new for each
//! try, and so may be its `registrationNumber`, of which the first stays. A request that was superseded is 409. The
//! token's record and action have to be those of the input (403); an action that nobody requested is 404.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::verdict;
use super::document::{self, Document};
use crate::auth::RecordGrant;
use crate::handlers::extract::Caller;
use crate::handlers::problem::{Kind, Problem};
use crate::handlers::{AppState, body, decisions, transact};
use crate::records::commands::{CommandError, Verdict};
use crate::records::model::{ActionKind, ActionStatus, Step};

/// Something that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Procedure {
    /// `locations.list`.
    ListLocations,
    /// `event.actions.{action}.{accept|reject}`.
    Decide {
        /// What was requested.
        action: ActionKind,
        /// Accepts it, or does not.
        accept: bool,
    },
}

/// `{"json": …}`.
#[derive(Deserialize)]
struct Envelope<'t> {
    #[serde(borrow)]
    json: &'t RawValue,
}

/// What a verdict says. A rejection of OpenCRVS has no reason; one that is there is kept.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    event_id: Uuid,
    action_id: Uuid,
    registration_number: Option<String>,
    reason: Option<String>,
    comment: Option<String>,
}

/// What is kept as the reason of a rejection that has none.
const NO_REASON: &str = "The country config gave no reason.";

impl Procedure {
    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "locations.list" {
            return Some(Self::ListLocations);
        }
        let (action, verdict) = name.strip_prefix("event.actions.")?.split_once('.')?;
        let action = match action {
            "notify" => ActionKind::Notify,
            "declare" => ActionKind::Declare,
            "validate" => ActionKind::Validate,
            "register" => ActionKind::Register,
            "reject" => ActionKind::Reject,
            "archive" => ActionKind::Archive,
            _ => return None,
        };
        match verdict {
            "accept" => Some(Self::Decide { action, accept: true }),
            "reject" => Some(Self::Decide { action, accept: false }),
            _ => None,
        }
    }

    /// Does it, and answers with the record as it stands then.
    pub(super) async fn decide(self, state: &AppState, caller: &Caller, input: &[u8]) -> Result<Value, Problem> {
        let Self::Decide { action, accept } = self else {
            return Err(Problem::new(Kind::MethodNotAllowed));
        };
        if input.is_empty() {
            return Err(Problem::new(Kind::BadRequest).detail("a call has no input"));
        }
        let Envelope { json } = body::typed(input)?;
        let input: Input = body::typed(json.get().as_bytes())?;
        let grant = grant(caller, &input, if accept { Step::Confirm } else { Step::Refuse })?;
        let document = judge(state, caller, grant, action, verdict_of(accept, input)?).await?;
        Ok(document.json)
    }
}

fn verdict_of(accept: bool, input: Input) -> Result<Verdict, Problem> {
    if accept {
        verdict::accepted(input.registration_number, Vec::new(), input.comment)
    } else {
        verdict::rejected(input.reason.unwrap_or_else(|| NO_REASON.to_owned()), input.comment)
    }
}

fn grant(caller: &Caller, input: &Input, step: Step) -> Result<RecordGrant, Problem> {
    let grant = decisions::grant(caller, input.event_id, step)?;
    if grant.action_id == Some(input.action_id) {
        Ok(grant)
    } else {
        Err(Problem::new(Kind::Forbidden).detail("the token is not for this action"))
    }
}

/// Only registrations are requested: no other action waits for a verdict.
async fn judge(
    state: &AppState,
    caller: &Caller,
    grant: RecordGrant,
    action: ActionKind,
    verdict: Verdict,
) -> Result<Document, Problem> {
    let unknown = || Problem::new(Kind::NotFound).detail("Action not found.");
    if action != ActionKind::Register {
        return Err(unknown());
    }
    let given = match verdict {
        Verdict::Accepted { .. } => ActionStatus::Accepted,
        Verdict::Rejected { .. } => ActionStatus::Rejected,
    };
    let stands = match transact::decide(state, decisions::decision(caller, grant, None, verdict)).await {
        Ok(_) => None,
        Err(error @ CommandError::AlreadyDecided) => Some(error),
        Err(CommandError::NotFound) => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    let document = document::read(state, grant).await?.ok_or_else(unknown)?;
    match (stands, document.verdict) {
        (None, _) => Ok(document),
        (Some(_), Some(standing)) if standing == given => Ok(document),
        (Some(_), Some(ActionStatus::Accepted)) => Err(already("Action has already been accepted.")),
        (Some(_), Some(ActionStatus::Rejected)) => Err(already("Action has already been rejected.")),
        (Some(error), Some(ActionStatus::Requested) | None) => Err(error.into()),
    }
}

fn already(detail: &str) -> Problem {
    Problem::new(Kind::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procedure_is_known_by_its_whole_name() {
        let register = |accept| Some(Procedure::Decide { action: ActionKind::Register, accept });
        assert_eq!(Procedure::named("event.actions.register.accept"), register(true));
        assert_eq!(Procedure::named("event.actions.register.reject"), register(false));
        assert_eq!(Procedure::named("locations.list"), Some(Procedure::ListLocations));
        for unknown in ["", "locations.lists", "event.actions.register", "event.actions.register.accept.x", "event.get"]
        {
            assert_eq!(Procedure::named(unknown), None, "{unknown}");
        }
    }
}
