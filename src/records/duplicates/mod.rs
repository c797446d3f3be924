//! Records that may register the same event.
//!
//! Cast: [`Keys`] are what a declaration is compared by; a score says how alike two are; [`Rules`] say from which score on
//! they are *possible duplicates*, a pair of records that is *open* until it is *resolved* ([`Resolution`]).
//!
//! - A submission is compared inside its transaction with every record that was committed before, and with the earlier
//!   ones of its list. One that resembles another stops at `declared`: what it wanted is held back until somebody says that
//!   it is no duplicate.
//! - A correction is compared anew. It is held if it resembles a record that is not held itself: of each pair
//!   somebody has to look at one.
//! - Two that are accepted at the same moment do not see each other: [`recheck()`] compares what was accepted since it looked
//!   the last time.
//!
//! Promises: a record never resembles itself; the score does not depend on which of two came first; a pair that somebody said
//! to be no duplicate is never opened again, whatever is corrected; rejected and archived records do not count; what is
//! repeated under the same transaction id is answered as before, without comparing.
//! Not promised: that every duplicate is found, nor that what is found is one.
//!
//! Who may read a record is told the ids, tracking ids and scores of what it resembles, and nothing else of them.

mod fold;
mod keys;
mod recheck;
mod score;
mod trigrams;

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::store::duplicate::{self, Pair};
use super::store::{record, record_match};

pub use keys::{Keys, searched};
pub use recheck::{Rechecked, recheck};
pub use score::{Face, Rules};
pub use trigrams::Bits;

/// Another record that may register the same event.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PossibleDuplicate {
    /// Its id.
    pub id: Uuid,
    /// Its tracking id.
    pub tracking_id: String,
    /// How likely, from 0 to 1, to three decimals.
    pub score: f64,
}

/// Why a pair is no possible duplicate any more; the same words as the type `duplicate_resolution` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "duplicate_resolution", rename_all = "snake_case")]
pub enum Resolution {
    /// Somebody looked and said so; for good.
    NotDuplicate,
    /// One of the two was corrected and does not resemble the other any more.
    Corrected,
    /// One of the two was rejected.
    Rejected,
    /// One of the two was archived.
    Archived,
}

/// A possible duplicate of the past or the present, as a record's history has it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundDuplicate {
    /// The other record, and the score.
    #[serde(flatten)]
    pub duplicate: PossibleDuplicate,
    /// When it was found, the last time.
    #[serde(with = "time::serde::rfc3339")]
    pub found_at: OffsetDateTime,
    /// Why it is none any more.
    #[schema(required = true)]
    pub resolution: Option<Resolution>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub resolved_at: Option<OffsetDateTime>,
}

/// Writes the rules of this configuration, for all instances. What was accepted while nothing was compared is not
/// compared later.
pub async fn prepare(conn: &mut PgConnection, rules: &Rules) -> sqlx::Result<()> {
    let before = record_match::rules(conn).await?;
    if record_match::set_rules(conn, rules).await? {
        tracing::info!(?rules, "the rules for possible duplicates are others than before");
    }
    if rules.enabled && !before.enabled {
        duplicate::skip_to_now(conn).await?;
    }
    Ok(())
}

/// A record and what its version that is being written is compared by.
pub(super) type Written<'a> = (Uuid, &'a str, &'a Keys);

/// Compares new records with all others, and opens the pairs that are found. Of the given ones each is compared with those
/// before it. Returns the open ones of each record that has any, the highest score first.
pub(super) async fn compare(
    conn: &mut PgConnection,
    ids: &[Uuid],
    rules: &Rules,
) -> sqlx::Result<HashMap<Uuid, Vec<PossibleDuplicate>>> {
    if !rules.enabled {
        return Ok(HashMap::new());
    }
    let mut found = alike(conn, ids, rules).await?;
    let order: HashMap<Uuid, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    for (id, others) in &mut found {
        others.retain(|other| order.get(&other.id).is_none_or(|at| Some(at) < order.get(id)));
    }
    // Only now: those of the list that come later are not to take the places of those that are there.
    keep_closest(&mut found, rules);
    open(conn, &mut found).await?;
    Ok(found)
}

/// Compares one record that exists already, after a correction: pairs that are not found any more are resolved.
pub(super) async fn compare_again(
    conn: &mut PgConnection,
    written: Written<'_>,
    by: &str,
) -> sqlx::Result<Vec<PossibleDuplicate>> {
    let rules = record_match::write(conn, &[written]).await?;
    let (id, ..) = written;
    if !rules.enabled {
        return Ok(Vec::new());
    }
    let mut found = resembling(conn, &[id], &rules).await?;
    open(conn, &mut found).await?;
    let found = found.remove(&id).unwrap_or_default();
    let kept: Vec<Uuid> = found.iter().map(|d| d.id).collect();
    duplicate::resolve(conn, id, &kept, Resolution::Corrected, by).await?;
    Ok(found)
}

/// Whether a correction that resembles these is to be held: one of them is not held itself.
pub(super) async fn holds(conn: &mut PgConnection, found: &[PossibleDuplicate]) -> sqlx::Result<bool> {
    let others: Vec<Uuid> = found.iter().map(|d| d.id).collect();
    Ok(!others.is_empty() && record::any_not_held(conn, &others).await?)
}

/// Resolves the open pairs of a record. One that is rejected or archived is not compared with any more.
pub(super) async fn resolve(
    conn: &mut PgConnection,
    record_id: Uuid,
    resolution: Resolution,
    by: &str,
) -> sqlx::Result<()> {
    if matches!(resolution, Resolution::Rejected | Resolution::Archived) {
        record_match::set_counts(conn, record_id, false).await?;
    }
    duplicate::resolve(conn, record_id, &[], resolution, by).await.map(drop)
}

/// The open ones of each record that has any, the highest score first.
pub async fn of_records(
    conn: &mut PgConnection,
    records: &[Uuid],
) -> sqlx::Result<HashMap<Uuid, Vec<PossibleDuplicate>>> {
    let mut found: HashMap<Uuid, Vec<PossibleDuplicate>> = HashMap::new();
    for seen in duplicate::of_records(conn, records, false).await? {
        let other = PossibleDuplicate { id: seen.other, tracking_id: seen.tracking_id, score: seen.score };
        found.entry(seen.record_id).or_default().push(other);
    }
    Ok(found)
}

/// The open ones of a record, the highest score first.
pub async fn of_record(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<Vec<PossibleDuplicate>> {
    Ok(of_records(conn, &[record_id]).await?.remove(&record_id).unwrap_or_default())
}

/// All that a record ever resembled.
pub(super) async fn history(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<Vec<FoundDuplicate>> {
    let seen = duplicate::of_records(conn, &[record_id], true).await?;
    let found = seen.into_iter().map(|s| FoundDuplicate {
        duplicate: PossibleDuplicate { id: s.other, tracking_id: s.tracking_id, score: s.score },
        found_at: s.found_at,
        resolution: s.resolution,
        resolved_at: s.resolved_at,
    });
    Ok(found.collect())
}

/// What each of the records resembles, the highest score first and then the oldest; at most as many as are reported.
async fn resembling(
    conn: &mut PgConnection,
    ids: &[Uuid],
    rules: &Rules,
) -> sqlx::Result<HashMap<Uuid, Vec<PossibleDuplicate>>> {
    let mut found = alike(conn, ids, rules).await?;
    keep_closest(&mut found, rules);
    Ok(found)
}

fn keep_closest(found: &mut HashMap<Uuid, Vec<PossibleDuplicate>>, rules: &Rules) {
    let most = usize::try_from(rules.max_candidates).unwrap_or_default();
    for others in found.values_mut() {
        others.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        others.truncate(most);
    }
}

/// All that each of the records resembles.
async fn alike(
    conn: &mut PgConnection,
    ids: &[Uuid],
    rules: &Rules,
) -> sqlx::Result<HashMap<Uuid, Vec<PossibleDuplicate>>> {
    let mut found: HashMap<Uuid, Vec<PossibleDuplicate>> = HashMap::new();
    for c in record_match::candidates(conn, ids, rules).await? {
        if let Some(score) = score::score(&c.event, &c.asked_face, &c.other_face, rules) {
            let other = PossibleDuplicate { id: c.other, tracking_id: c.other_tracking_id, score };
            found.entry(c.asked).or_default().push(other);
        }
    }
    Ok(found)
}

/// Opens what was found, and leaves out what somebody said to be no duplicate.
async fn open(conn: &mut PgConnection, found: &mut HashMap<Uuid, Vec<PossibleDuplicate>>) -> sqlx::Result<()> {
    found.retain(|_, others| !others.is_empty());
    if found.is_empty() {
        return Ok(());
    }
    let opened = duplicate::open(conn, &pairs(found)).await?;
    for (id, others) in found.iter_mut() {
        others.retain(|other| opened.iter().any(|p| (p.a, p.b) == ordered(*id, other.id)));
    }
    found.retain(|_, others| !others.is_empty());
    Ok(())
}

/// Each pair once.
fn pairs(found: &HashMap<Uuid, Vec<PossibleDuplicate>>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = found
        .iter()
        .flat_map(|(id, others)| others.iter().map(|other| (ordered(*id, other.id), other.score)))
        .map(|((a, b), score)| Pair { a, b, score })
        .collect();
    pairs.sort_by_key(|p| (p.a, p.b));
    pairs.dedup_by_key(|p| (p.a, p.b));
    pairs
}

fn ordered(one: Uuid, other: Uuid) -> (Uuid, Uuid) {
    (one.min(other), one.max(other))
}
