//! `confirmRegistration` and `rejectRegistration`: the country's verdict, as country configs since 1.7 send it.
//!
//! Such a peer waits for this answer before it answers our own delivery: HTTP 200 with JSON makes it say 202, everything
//! else makes it say 500, and then it is asked again. So 200 says that a verdict stands – this one, the same from before,
//! another one that was first, or none because the request was superseded – and never that nothing was written that
//! should be.

use async_graphql::{Context, ID, InputObject, Object, Result};

use super::super::verdict::{self, Identifier};
use super::answer::Refusal;
use crate::handlers::AppState;
use crate::handlers::extract::Caller;
use crate::handlers::problem::Problem;

/// An identifier of the child.
#[derive(Debug, InputObject)]
struct IdentifierInput {
    /// Its code.
    #[graphql(name = "type")]
    kind: Option<String>,
    /// Itself; empty: none was given.
    value: Option<String>,
}

/// The country registers the event. 1.7 to 1.9 send `identifiers`, the queue's branch `childIdentifiers` and `trackingId`.
#[derive(Debug, InputObject)]
struct ConfirmRegistrationInput {
    /// Needed, although the type does not say so.
    registration_number: Option<String>,
    /// If it is there, it is that of the record.
    tracking_id: Option<String>,
    child_identifiers: Option<Vec<IdentifierInput>>,
    identifiers: Option<Vec<IdentifierInput>>,
    /// Free text, kept with the verdict.
    comment: Option<String>,
}

/// The country does not register the event.
#[derive(Debug, InputObject)]
struct RejectRegistrationInput {
    /// Why: a code in any case, or a text.
    reason: String,
    /// Why, in words.
    comment: Option<String>,
}

/// The country's verdicts.
#[derive(Debug, Default)]
pub(super) struct CountryMutation;

/// The country's verdicts.
#[Object]
impl CountryMutation {
    /// Registers the event, unless a verdict stands. Returns the record's id.
    async fn confirm_registration(&self, ctx: &Context<'_>, id: ID, details: ConfirmRegistrationInput) -> Result<ID> {
        let (state, caller) = (ctx.data::<AppState>()?, ctx.data::<Caller>()?);
        confirm(state, caller, &id, details).await.map_err(Refusal::to_country)?;
        Ok(id)
    }

    /// Does not register the event, unless a verdict stands. Returns the record's id.
    async fn reject_registration(&self, ctx: &Context<'_>, id: ID, details: RejectRegistrationInput) -> Result<ID> {
        let (state, caller) = (ctx.data::<AppState>()?, ctx.data::<Caller>()?);
        reject(state, caller, &id, details).await.map_err(Refusal::to_country)?;
        Ok(id)
    }
}

async fn confirm(
    state: &AppState,
    caller: &Caller,
    id: &str,
    details: ConfirmRegistrationInput,
) -> Result<(), Problem> {
    let of = |list: Option<Vec<IdentifierInput>>| list.unwrap_or_default().into_iter();
    let identifiers = of(details.child_identifiers).chain(of(details.identifiers));
    let identifiers = identifiers.map(|i| Identifier { kind: i.kind, value: i.value }).collect();
    let verdict = verdict::accepted(details.registration_number, identifiers, details.comment)?;
    verdict::give(state, caller, id, details.tracking_id, verdict).await
}

async fn reject(state: &AppState, caller: &Caller, id: &str, details: RejectRegistrationInput) -> Result<(), Problem> {
    let verdict = verdict::rejected(details.reason, details.comment)?;
    verdict::give(state, caller, id, None, verdict).await
}
