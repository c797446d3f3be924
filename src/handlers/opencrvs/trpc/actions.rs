//! The verdict on an action, with the rules of OpenCRVS's events service.
//!
//! | | nothing stands | accepted | rejected |
//! |---|---|---|---|
//! | accept | accepted | 200, and nothing changes | 400 |
//! | reject | rejected | 400 | 200, and nothing changes |
//!
//! The action is the key of the dedupe: the `transactionId` of an input is the peer's own, new for each try, and so may be
//! its `registrationNumber`, of which the first stays. What was superseded is 409. The token's record and action have to be
//! those of the input (403); an action of another kind than the procedure's is none (404).
//!
//! A registration waits for this. Every other action is done already: to accept it may amend what was declared, to reject
//! it sends the record back ([`crate::records::commands::judge`]).

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::verdict;
use crate::auth::RecordGrant;
use crate::handlers::extract::Caller;
use crate::handlers::problem::{Kind, Problem};
use crate::handlers::{AppState, body, decisions, transact};
use crate::records::commands::{Amendment, CommandError, Judgement, NO_REASON, Opinion, Outcome, Verdict};
use crate::records::event_document::{self, Head};
use crate::records::model::{ActionKind, ActionStatus, Step};
use crate::records::queries;

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
struct Input<'t> {
    event_id: Uuid,
    action_id: Uuid,
    registration_number: Option<String>,
    #[serde(borrow)]
    declaration: Option<&'t RawValue>,
    #[serde(borrow)]
    annotation: Option<&'t RawValue>,
    reason: Option<String>,
    comment: Option<String>,
}

/// What is said of an action.
enum Said {
    /// Of a registration.
    Verdict(Verdict),
    /// Of any other.
    Opinion(Opinion),
}

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

    /// Does it, and answers with the record as it stands then: an `EventDocument`.
    pub(super) async fn decide(
        self,
        state: &AppState,
        caller: &Caller,
        input: &[u8],
    ) -> Result<Box<RawValue>, Problem> {
        let Self::Decide { action, accept } = self else {
            return Err(Problem::new(Kind::MethodNotAllowed));
        };
        if input.is_empty() {
            return Err(Problem::new(Kind::BadRequest).detail("a call has no input"));
        }
        let Envelope { json } = body::typed(input)?;
        let input: Input<'_> = body::typed(json.get().as_bytes())?;
        let (event_id, action_id) = (input.event_id, input.action_id);
        let said = if accept { accepted(action, input)? } else { rejected(action, input)? };
        let grant = decisions::grant(caller, event_id, if accept { Step::Confirm } else { Step::Refuse })?;
        if grant.action_id != Some(action_id) {
            return Err(Problem::new(Kind::Forbidden).detail("the token is not for this action"));
        }
        if look(state, event_id, action_id).await?.is_none_or(|(kind, _)| kind != action) {
            return Err(unknown());
        }
        match say(state, caller, grant, said).await {
            Ok(_) => {}
            Err(CommandError::NotFound) => return Err(unknown()),
            Err(error @ CommandError::AlreadyDecided) => {
                let (_, stands) = look(state, event_id, action_id).await?.ok_or_else(unknown)?;
                agree(accept, stands).unwrap_or_else(|| Err(error.into()))?;
            }
            Err(error) => return Err(error.into()),
        }
        document(state, event_id).await
    }
}

fn unknown() -> Problem {
    Problem::new(Kind::NotFound).detail("Action not found.")
}

fn accepted(action: ActionKind, input: Input<'_>) -> Result<Said, Problem> {
    let amendment = Amendment::new(input.declaration, input.annotation);
    if action != ActionKind::Register {
        return Ok(Said::Opinion(Opinion::Accepted(amendment)));
    }
    verdict::accepted(input.registration_number, Vec::new(), amendment, input.comment).map(Said::Verdict)
}

fn rejected(action: ActionKind, input: Input<'_>) -> Result<Said, Problem> {
    let reason = input.reason.unwrap_or_else(|| NO_REASON.to_owned());
    let (reason, comment) = verdict::reason(reason, input.comment)?;
    Ok(if action == ActionKind::Register {
        Said::Verdict(Verdict::Rejected { reason, comment })
    } else {
        Said::Opinion(Opinion::Rejected { reason, comment })
    })
}

async fn say(state: &AppState, caller: &Caller, grant: RecordGrant, said: Said) -> Result<Outcome, CommandError> {
    let opinion = match said {
        Said::Verdict(verdict) => {
            return transact::decide(state, decisions::decision(caller, grant, None, verdict)).await;
        }
        Said::Opinion(opinion) => opinion,
    };
    let judgement = Judgement {
        record_id: grant.record_id,
        action_id: grant.action_id.ok_or(CommandError::NotFound)?,
        by: caller.principal.id.clone(),
        opinion,
        traceparent: caller.traceparent.clone(),
    };
    transact::judge(state, judgement).await
}

/// Whether what is said is what stands; `None` if nothing does.
fn agree(accept: bool, stands: Option<ActionStatus>) -> Option<Result<(), Problem>> {
    let already = |detail: &str| Some(Err(Problem::new(Kind::BadRequest).detail(detail)));
    match (accept, stands?) {
        (true, ActionStatus::Accepted) | (false, ActionStatus::Rejected) => Some(Ok(())),
        (true, ActionStatus::Rejected) => already("Action has already been rejected."),
        (false, ActionStatus::Accepted) => already("Action has already been accepted."),
        (_, ActionStatus::Requested) => None,
    }
}

async fn look(
    state: &AppState,
    record_id: Uuid,
    action_id: Uuid,
) -> Result<Option<(ActionKind, Option<ActionStatus>)>, Problem> {
    let mut conn = state.db.acquire().await?;
    Ok(queries::verdict_on(&mut conn, record_id, action_id).await?)
}

async fn document(state: &AppState, record_id: Uuid) -> Result<Box<RawValue>, Problem> {
    let mut conn = state.db.acquire().await?;
    let known = queries::record(&mut conn, record_id).await?.ok_or_else(unknown)?;
    let head = Head { record_id, event: &known.view.event, tracking_id: &known.view.tracking_id };
    let text = event_document::whole(&mut conn, head).await?;
    Ok(RawValue::from_string(text).map_err(CommandError::from)?)
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

    #[test]
    fn what_is_said_agrees_with_what_stands_or_is_told_what_does() {
        let refused = |accept, stands| agree(accept, Some(stands)).unwrap().unwrap_err().message().to_owned();
        assert!(agree(true, Some(ActionStatus::Accepted)).unwrap().is_ok());
        assert!(agree(false, Some(ActionStatus::Rejected)).unwrap().is_ok());
        assert_eq!(refused(true, ActionStatus::Rejected), "Action has already been rejected.");
        assert_eq!(refused(false, ActionStatus::Accepted), "Action has already been accepted.");
        assert!(agree(true, None).is_none());
    }
}
