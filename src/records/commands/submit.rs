//! New records, many at a time: the batch is the primitive, one submission is a list of one.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::redeliver::NOBODY_VALIDATES;
use super::reply::DeliveryView;
use super::{CommandError, Initiator, Outcome, reply};
use crate::outbox::enqueue::{self, Placed, Subscription};
use crate::records::attachments::{self, Attachment, Owner};
use crate::records::duplicates::{self, Keys, PossibleDuplicate, Rules};
use crate::records::effects::{self, EVENT_REGISTRATION, Origin};
use crate::records::fhir::{Declaration, Stamp};
use crate::records::model::{self, Status, Step};
use crate::records::store::action::NewAction;
use crate::records::store::record::{self, NewRecord, Row};
use crate::records::store::submission::{self, Ended};
use crate::records::tracking_id;
use crate::transactions::{self, Claim, Claimed, Fingerprint, Reply, Saved};

/// A declaration of an event that has no record yet.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The client's transaction id.
    pub transaction_id: String,
    /// What is asked.
    pub fingerprint: Fingerprint,
    /// Who asks.
    pub initiator: Initiator,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// `birth`, `death`, `marriage`, …
    pub event: String,
    /// How far it goes: notify, declare, validate or register.
    pub goal: Step,
    /// The declaration, as text.
    pub declaration: String,
    /// Those of the bundle first (one for each inline attachment), then the others.
    pub attachments: Vec<Attachment>,
    /// Free text of who declares.
    pub comment: Option<String>,
}

impl Submission {
    /// Bytes of what it brings.
    pub fn size(&self) -> usize {
        self.declaration.len()
            + self.comment.as_ref().map_or(0, String::len)
            + self.attachments.iter().map(Attachment::size).sum::<usize>()
    }
}

/// How often a new tracking id is drawn before giving up.
const TRACKING_ID_DRAWS: usize = 20;

/// Accepts submissions, each with its own outcome, in the order given. The list costs four statements, however long it is:
/// the claim of its transaction ids, records, the search for duplicates, and everything else. Only what some of it brings
/// adds to that: attachments, duplicates that were found, ids that are known.
pub async fn submit(conn: &mut PgConnection, submissions: &[Submission]) -> Result<Vec<Outcome>, CommandError> {
    let (first, twins) = without_twins(submissions);
    let claims: Vec<Claim<'_>> = first.iter().map(|i| claim_of(&submissions[*i])).collect();
    let claimed = transactions::claim(conn, &claims).await?;
    let mut fresh = Vec::new();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; submissions.len()];
    for (at, claimed) in first.into_iter().zip(claimed) {
        match claimed {
            Claimed::Fresh => fresh.push((at, Draft::new(&submissions[at])?)),
            Claimed::Done(reply) => outcomes[at] = Some(Outcome::Replayed(reply)),
            Claimed::Reused => outcomes[at] = Some(Outcome::Reused),
        }
    }
    let (places, mut drafts): (Vec<usize>, Vec<Draft<'_>>) = fresh.into_iter().unzip();
    for (at, reply) in places.into_iter().zip(write(conn, &mut drafts).await?) {
        outcomes[at] = Some(Outcome::Done(reply));
    }
    let mut again = Vec::new();
    for (at, original) in twins {
        match outcomes[original].clone() {
            // The id was somebody's, or something else's, before this list: this one's, perhaps.
            Some(Outcome::Reused) => again.push(at),
            done => outcomes[at] = done.map(|done| twin(&submissions[at], &submissions[original], done)),
        }
    }
    let claims: Vec<Claim<'_>> = again.iter().map(|at| claim_of(&submissions[*at])).collect();
    for (at, claimed) in again.into_iter().zip(transactions::taken(conn, &claims).await?) {
        outcomes[at] = match claimed {
            Claimed::Done(reply) => Some(Outcome::Replayed(reply)),
            Claimed::Reused | Claimed::Fresh => Some(Outcome::Reused),
        };
    }
    Ok(outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Reused)).collect())
}

fn claim_of(s: &Submission) -> Claim<'_> {
    Claim { transaction_id: &s.transaction_id, principal_id: &s.initiator.id, fingerprint: &s.fingerprint }
}

/// The places of the first submission of each transaction id, and (place, original) of the others.
fn without_twins(submissions: &[Submission]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(submissions.len());
    let mut first = Vec::with_capacity(submissions.len());
    let mut twins = Vec::new();
    for (at, s) in submissions.iter().enumerate() {
        if let Some(original) = seen.get(s.transaction_id.as_str()) {
            twins.push((at, *original));
        } else {
            seen.insert(&s.transaction_id, at);
            first.push(at);
        }
    }
    (first, twins)
}

/// The outcome of a repetition within one list.
fn twin(this: &Submission, original: &Submission, outcome: Outcome) -> Outcome {
    if this.initiator.id != original.initiator.id || !this.fingerprint.same_as(&original.fingerprint) {
        return Outcome::Reused;
    }
    match outcome {
        Outcome::Done(reply) | Outcome::Replayed(reply) => Outcome::Replayed(reply),
        Outcome::Reused => Outcome::Reused,
    }
}

/// A submission with everything that is decided about it.
struct Draft<'a> {
    submission: &'a Submission,
    declaration: Declaration<'a>,
    steps: Vec<Step>,
    actions: Vec<Uuid>,
    row: Row,
    duplicates: Vec<PossibleDuplicate>,
}

impl<'a> Draft<'a> {
    fn new(submission: &'a Submission) -> Result<Self, CommandError> {
        let steps = match submission.goal {
            Step::Validate | Step::Register => vec![Step::Declare, submission.goal],
            Step::Notify
            | Step::Declare
            | Step::Confirm
            | Step::Refuse
            | Step::Reject
            | Step::MarkNotDuplicate
            | Step::Archive => {
                vec![submission.goal]
            }
        };
        let actions: Vec<Uuid> = steps.iter().map(|_| Uuid::now_v7()).collect();
        let status = model::first(submission.goal)?;
        let awaiting = (status == Status::WaitingValidation).then(|| actions.last().copied()).flatten();
        let row = Row {
            id: Uuid::now_v7(),
            event: submission.event.clone(),
            status,
            tracking_id: tracking_id::random(&submission.event),
            registration_number: None,
            version: 1,
            awaiting_action_id: awaiting,
            held_action: None,
            created_by: submission.initiator.id.clone(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        };
        let declaration = Declaration::parse(&submission.declaration)?;
        Ok(Self { submission, declaration, steps, actions, row, duplicates: Vec::new() })
    }

    fn last_action(&self) -> Uuid {
        self.actions.last().copied().unwrap_or_default()
    }

    fn stamped(&self) -> Result<String, CommandError> {
        let urls: Vec<String> =
            self.submission.attachments.iter().take(self.declaration.inline().len()).map(Attachment::url).collect();
        let stamp = Stamp {
            record_id: self.row.id,
            event: &self.row.event,
            tracking_id: &self.row.tracking_id,
            status: self.row.status.reg_status(),
            registration_number: None,
            identifiers: &[],
        };
        Ok(self.declaration.stamped(&stamp, &urls)?)
    }

    /// Stops at `declared` what resembles other records. What is declared incompletely has no further to go.
    fn hold(&mut self, duplicates: Vec<PossibleDuplicate>) {
        self.duplicates = duplicates;
        if self.submission.goal == Step::Notify {
            return;
        }
        self.steps.truncate(1);
        self.actions.truncate(1);
        self.row.status = Status::Declared;
        self.row.awaiting_action_id = None;
        self.row.held_action = Some(self.submission.goal.appends().0);
    }
}

async fn write(conn: &mut PgConnection, drafts: &mut [Draft<'_>]) -> Result<Vec<Reply>, CommandError> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let (rules, subscriptions) = insert_records(conn, drafts).await?;
    hold_duplicates(conn, drafts, &rules).await?;
    let messages: Vec<_> = drafts.iter().flat_map(|d| effects::messages(origin(d), &d.steps, &d.actions)).collect();
    let placed = enqueue::place(&messages, &subscriptions);
    let mut sent = by_record(&placed);
    let (mut replies, mut unasked) = (Vec::with_capacity(drafts.len()), HashSet::new());
    for d in drafts.iter() {
        let mine = sent.remove(&d.row.id).unwrap_or_default();
        if !mine.iter().any(|delivery| delivery.kind == EVENT_REGISTRATION) {
            unasked.extend(d.row.awaiting_action_id);
        }
        replies.push(reply::accepted(&d.submission.transaction_id, &d.row, d.duplicates.clone(), mine)?);
    }
    end(conn, drafts, &replies, &placed, &unasked).await?;
    let owners: Vec<Owner<'_>> = drafts
        .iter()
        .map(|d| Owner { record_id: d.row.id, version: 1, attachments: &d.submission.attachments })
        .collect();
    attachments::store(conn, &owners).await?;
    Ok(replies)
}

/// What is told of the messages of each record.
fn by_record(placed: &[Placed<'_>]) -> HashMap<Uuid, Vec<DeliveryView>> {
    let mut groups: HashMap<Uuid, Vec<DeliveryView>> = HashMap::new();
    for p in placed {
        let (destination, kind) = (p.destination.to_owned(), p.message.kind.to_owned());
        groups.entry(p.message.record_id).or_default().push(DeliveryView { destination, kind, state: p.state });
    }
    groups
}

fn origin<'a>(d: &'a Draft<'_>) -> Origin<'a> {
    Origin {
        transaction_id: &d.submission.transaction_id,
        record_id: d.row.id,
        initiator_id: &d.submission.initiator.id,
        owner_id: None,
        initiator_scopes: &d.submission.initiator.scopes,
        traceparent: d.submission.traceparent.as_deref(),
    }
}

/// Inserts the records and what they are compared by; draws a new tracking id for those whose first was taken.
async fn insert_records(
    conn: &mut PgConnection,
    drafts: &mut [Draft<'_>],
) -> Result<(Rules, Vec<Subscription>), CommandError> {
    let keys: Vec<Keys> = drafts.iter().map(|d| Keys::of(&d.row.event, &d.declaration)).collect();
    let mut missing: HashSet<Uuid> = drafts.iter().map(|d| d.row.id).collect();
    for _ in 0..TRACKING_ID_DRAWS {
        let both = drafts.iter().zip(&keys);
        let records: Vec<_> =
            both.filter(|(d, _)| missing.contains(&d.row.id)).map(|(d, keys)| (new_record(&d.row), keys)).collect();
        let begun = submission::begin(conn, &records).await?;
        for id in begun.inserted {
            missing.remove(&id);
        }
        if missing.is_empty() {
            return Ok((begun.rules, begun.subscriptions));
        }
        for d in drafts.iter_mut().filter(|d| missing.contains(&d.row.id)) {
            d.row.tracking_id = tracking_id::random(&d.row.event);
        }
    }
    Err(CommandError::NoTrackingId)
}

/// Looks for possible duplicates and holds those that have any, before anything else depends on how far they go.
async fn hold_duplicates(conn: &mut PgConnection, drafts: &mut [Draft<'_>], rules: &Rules) -> Result<(), CommandError> {
    let ids: Vec<Uuid> = drafts.iter().map(|d| d.row.id).collect();
    let mut found = duplicates::compare(conn, &ids, rules).await?;
    let mut held = Vec::new();
    for d in drafts {
        if let Some(duplicates) = found.remove(&d.row.id) {
            d.hold(duplicates);
            held.extend(d.row.held_action.map(|action| (d.row.id, action)));
        }
    }
    if !held.is_empty() {
        record::hold(conn, &held).await?;
    }
    Ok(())
}

fn new_record(row: &Row) -> NewRecord<'_> {
    NewRecord {
        id: row.id,
        event: &row.event,
        status: row.status,
        tracking_id: &row.tracking_id,
        awaiting_action_id: row.awaiting_action_id,
        created_by: &row.created_by,
    }
}

/// Writes what was decided about each.
async fn end(
    conn: &mut PgConnection,
    drafts: &[Draft<'_>],
    replies: &[Reply],
    placed: &[Placed<'_>],
    unasked: &HashSet<Uuid>,
) -> Result<(), CommandError> {
    let stamped = drafts.iter().map(Draft::stamped).collect::<Result<Vec<String>, _>>()?;
    let ended: Vec<Ended<'_>> = drafts
        .iter()
        .zip(&stamped)
        .zip(replies)
        .map(|((d, declaration), reply)| Ended {
            declaration,
            created_by: &d.row.created_by,
            saved: Saved {
                transaction_id: &d.submission.transaction_id,
                reply,
                record_id: d.row.id,
                action_id: d.last_action(),
            },
        })
        .collect();
    let actions = actions(drafts)?;
    let due = |action: Uuid| unasked.contains(&action).then_some(NOBODY_VALIDATES.as_secs_f64());
    let due: Vec<Option<f64>> = actions.iter().map(|a| due(a.id)).collect();
    Ok(submission::end(conn, &ended, &actions, &due, placed).await?)
}

/// The actions of each, in its order.
fn actions<'a>(drafts: &'a [Draft<'_>]) -> Result<Vec<NewAction<'a>>, CommandError> {
    let mut actions = Vec::with_capacity(drafts.len() * 2);
    for d in drafts {
        for (step, id) in d.steps.iter().zip(&d.actions) {
            let (kind, status) = step.appends();
            actions.push(NewAction {
                id: *id,
                record_id: d.row.id,
                transaction_id: &d.submission.transaction_id,
                action: kind,
                status,
                requested_action_id: None,
                version: 1,
                record_status: model::first(*step)?,
                registration_number: None,
                identifiers: None,
                annotation: None,
                reason: None,
                comment: d.submission.comment.as_deref(),
                created_by: &d.submission.initiator.id,
                scopes: &d.submission.initiator.scopes,
            });
        }
    }
    Ok(actions)
}
