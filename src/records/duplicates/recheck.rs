//! The periodic check: finds the pairs that were accepted at the same moment and so did not see each other.
//!
//! It reads what was committed since the last turn by snapshots, so that a transaction that was open for long is neither
//! skipped nor waited for; one instance at a time, a page per transaction. Of a pair that is new the later record is held
//! if it is still `declared`, else the earlier one if that is; a record that has gone on already – validated, being
//! validated by the country, registered – is not pulled back: the pair shows on it and in its history.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Pair, PossibleDuplicate, Rules, open, pairs, resembling};
use crate::records::changes;
use crate::records::model::{ActionKind, Status};
use crate::records::store::record::{self, Row};
use crate::records::store::{duplicate, record_match};

/// Records that one transaction checks.
const PAGE: i64 = 100;

/// What a page brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Records that were compared.
    pub records: usize,
    /// Pairs that were not known.
    pub found: usize,
    /// Records that are held now.
    pub held: usize,
    /// Whether there is more to check at once.
    pub more: bool,
}

/// Checks one page of what was committed since the last turn.
pub async fn recheck(conn: &mut PgConnection) -> sqlx::Result<Rechecked> {
    let rules = record_match::rules(conn).await?;
    if !rules.enabled || !duplicate::begin_turn(conn).await? {
        return Ok(Rechecked::default());
    }
    let page = duplicate::page(conn, PAGE).await?;
    let ids: Vec<Uuid> = page.iter().map(|changed| changed.record_id).collect();
    let new = unknown(conn, &ids, &rules).await?;
    let (found, held) = if new.is_empty() { (0, 0) } else { write_down(conn, &new, &rules).await? };
    let more = page.len() >= usize::try_from(PAGE).unwrap_or_default();
    match page.last() {
        Some(last) if more => duplicate::pass(conn, last).await?,
        _ => duplicate::end_turn(conn).await?,
    }
    Ok(Rechecked { records: if found > 0 { ids.len() } else { 0 }, found, held, more })
}

/// The pairs of these records that are not known.
async fn unknown(conn: &mut PgConnection, ids: &[Uuid], rules: &Rules) -> sqlx::Result<Vec<Pair>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = pairs(&resembling(conn, ids, rules).await?);
    if found.is_empty() { Ok(found) } else { duplicate::unknown(conn, found).await }
}

/// Looks again with the records locked, opens the pairs, and holds what has to be.
async fn write_down(conn: &mut PgConnection, new: &[Pair], rules: &Rules) -> sqlx::Result<(usize, usize)> {
    let mut ids: Vec<Uuid> = new.iter().flat_map(|p| [p.a, p.b]).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows: HashMap<Uuid, Row> = record::lock_all(conn, &ids).await?.into_iter().map(|r| (r.id, r)).collect();
    let mut new = unknown(conn, &ids, rules).await?;
    new.retain(|p| rows.contains_key(&p.a) && rows.contains_key(&p.b));
    let mut found: HashMap<Uuid, Vec<PossibleDuplicate>> = HashMap::new();
    for pair in &new {
        let other = PossibleDuplicate { id: pair.a, tracking_id: String::new(), score: pair.score };
        found.entry(pair.b).or_default().push(other);
    }
    open(conn, &mut found).await?;
    let mut held: Vec<Uuid> = Vec::new();
    for pair in pairs(&found) {
        held.extend(to_hold(&rows, pair, &held));
    }
    let stops: Vec<(Uuid, ActionKind)> = held.iter().map(|id| (*id, ActionKind::Declare)).collect();
    if !stops.is_empty() {
        record::hold(conn, &stops).await?;
    }
    for id in rows.keys().filter(|id| new.iter().any(|p| [p.a, p.b].contains(id))) {
        changes::record_moved(conn, *id).await?;
    }
    Ok((new.len(), held.len()))
}

/// Which of the two somebody has to look at, if none is held yet: the later one, if it is still there to be held.
fn to_hold(rows: &HashMap<Uuid, Row>, pair: Pair, held: &[Uuid]) -> Option<Uuid> {
    let mut two: Vec<&Row> = [pair.a, pair.b].iter().filter_map(|id| rows.get(id)).collect();
    if two.iter().any(|r| r.held_action.is_some() || held.contains(&r.id)) {
        return None;
    }
    two.sort_by_key(|r| (r.created_at, r.id));
    two.iter().rev().find(|r| r.status == Status::Declared).map(|r| r.id)
}
