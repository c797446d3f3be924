//! What OpenCRVS's clients ask over GraphQL: to declare an event, and what became of it.
//!
//! A declaration takes the road of `POST /records`: the same refusals, the same transaction, the same once. Its transaction
//! id is `registration.draftId`; without one it is refused, since all that have none would share what they do not say.
//!
//! # What a resend is
//!
//! A client that got no answer makes its request anew from the draft. What it stamps while doing so is no part of what it
//! asks and is left out of the fingerprint ([`asked`]): `createdAt` (the moment of making the request, in every version:
//! `draftToGqlTransformer`), `updatedAt`, and of each `registration.status` the `timestamp` and `timeLoggedMS` (how long
//! the form was open: `appendGqlMetadataFromDraft`). The record keeps what came first.
//!
//! # What is answered
//!
//! `Void` (`{}`) once it is committed, and again for every repetition. `fetchRecordStatus` says `RecordProcessed` from then
//! on, to whoever submitted it and to nobody else: an id that is unknown and one that is somebody else's look the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_graphql::{Context, ID, InputType, Object, Result, SimpleObject, Union};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Refusal;
use super::inputs::{BirthRegistrationInput, DeathRegistrationInput, MarriageRegistrationInput, RegistrationInput};
use super::scalars::Void;
use crate::auth::Right;
use crate::handlers::attachments::prepare;
use crate::handlers::body;
use crate::handlers::extract::{Caller, item_transaction_id};
use crate::handlers::problem::{Fault, Kind, Problem};
use crate::handlers::records::goal;
use crate::handlers::{AppState, Settings, transact};
use crate::json;
use crate::records::attachments::Attachment;
use crate::records::commands::{Outcome, Submission};
use crate::records::fhir::build;
use crate::records::model::Step;
use crate::records::progress;

/// Declarations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientMutation;

#[Object]
impl ClientMutation {
    /// Declares a birth.
    #[graphql(complexity = 100)]
    async fn create_birth_registration(&self, ctx: &Context<'_>, details: BirthRegistrationInput) -> Result<Void> {
        let size = size(details.registration.as_ref());
        create(ctx, "birth", details, size).await
    }

    /// Declares a death.
    #[graphql(complexity = 100)]
    async fn create_death_registration(&self, ctx: &Context<'_>, details: DeathRegistrationInput) -> Result<Void> {
        let size = size(details.registration.as_ref());
        create(ctx, "death", details, size).await
    }

    /// Declares a marriage.
    #[graphql(complexity = 100)]
    async fn create_marriage_registration(
        &self,
        ctx: &Context<'_>,
        details: MarriageRegistrationInput,
    ) -> Result<Void> {
        let size = size(details.registration.as_ref());
        create(ctx, "marriage", details, size).await
    }
}

/// What became of declarations.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientQuery;

#[Object]
impl ClientQuery {
    /// What became of the declaration of a draft.
    #[graphql(complexity = 20)]
    async fn fetch_record_status(&self, ctx: &Context<'_>, draft_id: ID) -> Result<RecordStatus> {
        let (state, caller) = (ctx.data::<AppState>()?, ctx.data::<Caller>()?);
        Ok(status(state, caller, &draft_id).await.map_err(Refusal::to_client)?)
    }
}

/// Not there yet, or not for the caller.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub(super) struct RecordProcessing {
    processed: bool,
}

/// Accepted.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct RecordProcessed {
    record_id: ID,
    processed: bool,
    tracking_id: String,
    has_potential_duplicates: bool,
}

/// What became of a declaration.
#[derive(Clone, Debug, Union)]
pub(super) enum RecordStatus {
    /// Ask again.
    Processing(RecordProcessing),
    /// It is a record.
    Processed(RecordProcessed),
}

fn size(registration: Option<&RegistrationInput>) -> usize {
    registration.map_or(0, RegistrationInput::size)
}

async fn create<I>(ctx: &Context<'_>, event: &'static str, details: I, size: usize) -> Result<Void>
where
    I: InputType + Send + Sync + 'static,
{
    let (state, caller) = (ctx.data::<AppState>()?, ctx.data::<Caller>()?);
    let (settings, asking) = (Arc::clone(&state.settings), caller.clone());
    // In a body with large documents, copying them is work too, and room.
    let read = move || {
        let json = json_of(&details)?;
        drop(details);
        submission(&asking, event, json, &settings)
    };
    let submission = body::off_thread(size, read).await.map_err(Refusal::to_client)?;
    Ok(submit(state, caller, submission).await.map_err(Refusal::to_client)?)
}

async fn submit(state: &AppState, caller: &Caller, mut submission: Submission) -> Result<Void, Problem> {
    transact::admit(state, &submission.transaction_id).await?;
    prepare(state, caller, &mut submission.attachments, None).await?;
    match transact::submit(state, submission).await? {
        Outcome::Done(_) | Outcome::Replayed(_) => Ok(Void),
        Outcome::Reused => Err(Problem::new(Kind::Conflict).detail("the draftId was used for something else")),
    }
}

/// The input as JSON, without what is null: members that a later release knows of leave no trace in what was asked.
fn json_of(details: &impl InputType) -> Result<Value, Problem> {
    let mut value = details.to_value().into_json().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an input could not be written");
        Problem::new(Kind::Internal)
    })?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the client asks, which is the same in every resend.
fn asked(mut details: Value) -> String {
    if let Some(members) = details.as_object_mut() {
        members.remove("createdAt");
        members.remove("updatedAt");
    }
    let stati = details.pointer_mut("/registration/status").and_then(Value::as_array_mut);
    for status in stati.into_iter().flatten().filter_map(Value::as_object_mut) {
        status.remove("timestamp");
        status.remove("timeLoggedMS");
    }
    details.to_string()
}

/// Reads a declaration to what `POST /records` makes of one.
fn submission(
    caller: &Caller,
    event: &'static str,
    details: Value,
    settings: &Settings,
) -> Result<Submission, Problem> {
    let draft_id = details.pointer("/registration/draftId").and_then(Value::as_str);
    let transaction_id = item_transaction_id(draft_id.filter(|id| !id.is_empty())).map_err(|problem| {
        Problem::fault(problem.kind(), "/registration/draftId", "draftId has to be 8 to 128 of A-Z a-z 0-9 . _ : -")
    })?;
    if !settings.events.iter().any(|known| known == event) {
        return Err(Problem::new(Kind::UnknownEvent));
    }
    let goal = goal_of(caller, event, &details)?;
    let (declaration, attachments) = declaration(event, &details, settings)?;
    let fingerprint = body::fingerprint(&format!("graphql create {event}"), asked(details).as_bytes())?;
    Ok(Submission {
        transaction_id,
        fingerprint,
        initiator: caller.initiator(),
        traceparent: caller.traceparent.clone(),
        event: event.to_owned(),
        goal,
        declaration,
        attachments,
        comment: None,
    })
}

/// As far as the scopes allow; one that says itself that it is incomplete is kept as such, whoever sends it.
fn goal_of(caller: &Caller, event: &str, details: &Value) -> Result<Step, Problem> {
    let furthest = goal(caller, None, event)?;
    let incomplete = details.pointer("/registration/inCompleteFields").and_then(Value::as_str);
    Ok(if incomplete.is_some_and(|fields| !fields.is_empty()) { Step::Notify } else { furthest })
}

fn declaration(event: &str, details: &Value, settings: &Settings) -> Result<(String, Vec<Attachment>), Problem> {
    let built = build::bundle(event, details).map_err(|error| {
        let place = match &error {
            build::BuildError::Wrong { place, .. } => place.clone(),
            build::BuildError::UnknownEvent => String::new(),
        };
        Problem::fault(Kind::InvalidDeclaration, place, error.to_string())
    })?;
    let not_json = |error: String| Problem::new(Kind::NotJson).detail(error);
    json::digest(built.text.as_bytes()).map_err(|error| not_json(error.to_string()))?;
    let text = RawValue::from_string(built.text).map_err(|error| not_json(error.to_string()))?;
    body::declaration(&text, &[], &settings.attachments.types).map_err(|faults| at_fault(&faults, &built.places))
}

/// Says what is wrong, and where in what the client sent: it knows nothing of a bundle, and sees no more than a message.
fn at_fault(faults: &[Fault], places: &BTreeMap<usize, String>) -> Problem {
    const SAID: usize = 5;
    let kind = faults.first().map_or(Kind::InvalidDeclaration, |fault| fault.kind);
    let said = faults.iter().take(SAID).map(|fault| {
        let entry = fault.pointer.strip_prefix("/declaration/entry/").and_then(|rest| rest.split('/').next());
        let place = entry.and_then(|entry| entry.parse().ok()).and_then(|entry: usize| places.get(&entry));
        place.map_or_else(|| fault.detail.clone(), |place| format!("{place}: {}", fault.detail))
    });
    Problem::new(kind).detail(said.collect::<Vec<_>>().join("; "))
}

/// What certifying is called, from 1.6 to 1.8. There is no right of ours for it.
const CERTIFY: [&str; 4] = [
    "certify",
    "record.print-issue-certified-copies",
    "record.registration-print&issue-certified-copies",
    "record.registration-print-certified-copies",
];

/// Who may ask: whoever may declare something, or certify.
fn may_ask(state: &AppState, caller: &Caller) -> bool {
    let scopes = &caller.principal.scopes;
    CERTIFY.iter().any(|scope| scopes.has_exact(scope))
        || state.settings.events.iter().any(|event| scopes.allows(Right::Declare, event))
}

async fn status(state: &AppState, caller: &Caller, draft_id: &str) -> Result<RecordStatus, Problem> {
    if !may_ask(state, caller) {
        return Err(Problem::insufficient("declare"));
    }
    if item_transaction_id(Some(draft_id)).is_err() {
        return Ok(RecordStatus::Processing(RecordProcessing { processed: false }));
    }
    let mut conn = state.db.acquire().await?;
    let owned = progress::views(&mut conn, &[draft_id]).await?.remove(draft_id);
    // A record's token has the name of who submitted it, and is not theirs.
    let own = owned.filter(|o| caller.principal.record.is_none() && o.principal_id == caller.principal.id);
    Ok(match own.map(|own| own.view.record) {
        Some(record) => RecordStatus::Processed(RecordProcessed {
            record_id: record.id.to_string().into(),
            processed: true,
            tracking_id: record.tracking_id,
            has_potential_duplicates: !record.possible_duplicates.is_empty(),
        }),
        None => RecordStatus::Processing(RecordProcessing { processed: false }),
    })
}
