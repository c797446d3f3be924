//! Finding records: pages in the order they were accepted, and counts by status.
//!
//! Promises: a page costs what its length costs, not what there is to find; walking from page to page shows a record that
//! stays as it is exactly once, whatever is written meanwhile. The order is by `createdAt`, then id. Not promised: that a
//! record whose status changes while somebody walks is shown once, nor that one accepted meanwhile is shown.
//!
//! Who may see what is decided above: a [`Filter`] holds only what its caller may see.

use serde::Serialize;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

use super::commands::{CommandError, RecordView};
use super::duplicates::{self, PossibleDuplicate, searched};
use super::model::Status;
use super::store::find::{self, Ask};
use super::store::record::Row;

pub use super::store::find::COUNTED;

/// As many records as are looked at of all whose people have a name.
pub const NAMESAKES: i64 = 1000;

/// What is looked for: all of it has to fit.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these events.
    pub events: Vec<String>,
    /// One of these statuses.
    pub statuses: Vec<Status>,
    /// Submitted by them.
    pub created_by: Option<String>,
    /// Waiting for the country's verdict this many seconds or longer.
    pub waiting: Option<f64>,
    /// This tracking id.
    pub tracking_id: Option<String>,
    /// This registration number.
    pub registration_number: Option<String>,
    /// A tracking id, a registration number, or words of the names of the people that a record is about.
    pub q: Option<String>,
    /// This record and no other.
    pub record_id: Option<Uuid>,
}

/// Which come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The oldest: work queues.
    Oldest,
    /// The newest.
    Newest,
}

/// A record's place in the order.
pub type Position = (OffsetDateTime, Uuid);

/// A record that was found.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FoundRecord)]
pub struct Found {
    /// The record.
    #[serde(flatten)]
    pub record: RecordView,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Who submitted it.
    pub created_by: String,
}

/// Some records, and where the next page starts if there is one.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records, in order.
    pub records: Vec<Found>,
    /// The last of them, if more follow.
    pub next: Option<Position>,
}

/// Counts by status.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Counts {
    /// Records of each status that was asked for.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub counts: BTreeMap<&'static str, i64>,
    /// Statuses that have more than were counted: of each event no more than [`COUNTED`] are.
    #[schema(value_type = Vec<Status>)]
    pub more: Vec<&'static str>,
}

/// One page of at most `limit` records after `after`.
pub async fn page(
    conn: &mut PgConnection,
    filter: &Filter,
    order: Order,
    after: Option<Position>,
    limit: usize,
) -> Result<Page, CommandError> {
    let mut rows = if filter.names_records() {
        let mut rows = by_name(conn, filter).await?;
        if order == Order::Newest {
            rows.reverse();
        }
        rows.retain(|row| after.is_none_or(|at| precedes(at, row, order)));
        rows
    } else {
        let ask = Ask { after, limit: i64::try_from(limit + 1).unwrap_or(i64::MAX), ..filter.ask() };
        match (order, filter.created_by.is_some()) {
            (Order::Newest, false) => find::newest(conn, &ask).await?,
            (Order::Oldest, false) => find::oldest(conn, &ask).await?,
            (Order::Newest, true) => find::newest_of(conn, &ask).await?,
            (Order::Oldest, true) => find::oldest_of(conn, &ask).await?,
        }
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| (row.created_at, row.id));
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut resembled = duplicates::of_records(conn, &ids).await?;
    let found = rows.iter().map(|row| Found::of(row, resembled.remove(&row.id).unwrap_or_default()));
    Ok(Page { records: found.collect(), next })
}

/// How many records of each status there are.
pub async fn counts(conn: &mut PgConnection, filter: &Filter) -> Result<Counts, CommandError> {
    let mut counts = Counts::default();
    counts.counts.extend(filter.statuses.iter().map(|status| (status.as_str(), 0)));
    if filter.names_records() {
        for row in by_name(conn, filter).await? {
            *counts.counts.entry(row.status.as_str()).or_default() += 1;
        }
        return Ok(counts);
    }
    let ask = filter.ask();
    let found =
        if ask.created_by.is_some() { find::counts_of(conn, &ask).await? } else { find::counts(conn, &ask).await? };
    for count in found {
        counts.counts.insert(count.status.as_str(), count.records);
        if count.more {
            counts.more.push(count.status.as_str());
        }
    }
    Ok(counts)
}

/// The records that are named, as far as the rest of the filter fits, the oldest first. A handful by an id or a number; of
/// those whose people have the name, the newest [`NAMESAKES`]. So the rest is judged here.
async fn by_name(conn: &mut PgConnection, filter: &Filter) -> Result<Vec<Row>, CommandError> {
    let upper = filter.q.as_ref().map(|q| q.to_uppercase());
    let tracking_id = filter.tracking_id.as_deref().or(upper.as_deref());
    let number = filter.registration_number.as_deref().or(filter.q.as_deref());
    let mut rows = find::named(conn, tracking_id, number, filter.record_id).await?;
    rows.retain(|row| filter.q.as_deref().is_none_or(|q| is_called(row, q)));
    let trigrams = filter.q.as_deref().map(searched).unwrap_or_default();
    // One or two letters of the Latin alphabet say nothing, and would read a third of all records.
    let tells = trigrams.len() >= 3 || filter.q.as_deref().is_some_and(|q| !q.is_ascii());
    if tells && !trigrams.is_empty() {
        let namesakes = find::of_people(conn, &trigrams, &Ask { limit: NAMESAKES, ..filter.ask() }).await?;
        rows.extend(namesakes);
        rows.sort_unstable_by_key(|row| (row.created_at, row.id));
        rows.dedup_by_key(|row| row.id);
    }
    let mut found = Vec::new();
    for row in rows {
        let waited = match (filter.waiting, row.awaiting_action_id) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(seconds), Some(action)) => find::has_waited(conn, action, seconds).await?,
        };
        if waited && filter.fits(&row) {
            found.push(row);
        }
    }
    Ok(found)
}

impl Filter {
    /// Whether it leads to a few records at once.
    fn names_records(&self) -> bool {
        self.tracking_id.is_some() || self.registration_number.is_some() || self.q.is_some() || self.record_id.is_some()
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            events: &self.events,
            statuses: &self.statuses,
            created_by: self.created_by.as_deref(),
            waiting: self.waiting,
            after: None,
            limit: 0,
        }
    }

    /// Everything but the wait and `q`.
    fn fits(&self, row: &Row) -> bool {
        let number = row.registration_number.as_deref();
        self.events.contains(&row.event)
            && self.statuses.contains(&row.status)
            && self.created_by.as_ref().is_none_or(|by| *by == row.created_by)
            && self.tracking_id.as_ref().is_none_or(|id| *id == row.tracking_id)
            && self.registration_number.as_deref().is_none_or(|n| Some(n) == number)
            && self.record_id.is_none_or(|id| id == row.id)
    }
}

fn is_called(row: &Row, q: &str) -> bool {
    row.tracking_id.eq_ignore_ascii_case(q) || row.registration_number.as_deref() == Some(q)
}

fn precedes(at: Position, row: &Row, order: Order) -> bool {
    let here = (row.created_at, row.id);
    match order {
        Order::Oldest => at < here,
        Order::Newest => at > here,
    }
}

impl Found {
    fn of(row: &Row, possible_duplicates: Vec<PossibleDuplicate>) -> Self {
        Self {
            record: RecordView::of(row, possible_duplicates),
            created_at: row.created_at,
            updated_at: row.updated_at,
            created_by: row.created_by.clone(),
        }
    }
}
