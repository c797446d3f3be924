//! `GET /records` and `GET /records/counts`: what a work queue shows.
//!
//! Who sees what: `record.read` the events that it allows; everybody their own (`createdBy` is oneself); a record's token
//! its record. A parameter that is not known, or that is said twice where once is meant, is refused: a filter that is
//! silently ignored shows too much.

mod cursor;
mod duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Serialize;

use self::duration::seconds;
use super::AppState;
use super::extract::Caller;
use super::openapi::finding::{Filters, Pages};
use super::openapi::problems::FindProblems;
use super::openapi::tags;
use super::problem::{Kind, Problem};
use crate::auth::Right;
use crate::records::commands::is_registration_number;
use crate::records::find::{self, Counts, Filter, Found, Order};
use crate::records::model::Status;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;

/// As many events as one query may name.
const EVENTS_MAX: usize = 20;

type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// A page of records.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Records {
    records: Vec<Found>,
    /// Where the next page is, if there is one.
    #[schema(required = true)]
    cursor: Option<String>,
}

/// Find records
///
/// A page of those that the caller may see, in the order in which they were accepted. A record whose status changes while
/// one walks from page to page may be shown twice or not at all.
#[utoipa::path(
    get, path = "/records", operation_id = "findRecords", tag = tags::RECORDS,
    params(Filters, Pages, Caller),
    responses((status = 200, description = "A page", body = Records), FindProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn find(
    State(state): State<AppState>,
    caller: Caller,
    query: Pairs,
) -> Result<Json<Records>, Problem> {
    let asked = Asked::read(query)?;
    let filter = asked.filter(&caller, &state.settings.events)?;
    let after = asked.cursor.as_deref().map(|text| cursor::read(text, &asked.signature())).transpose()?;
    let mut conn = state.db.acquire().await?;
    let page = find::page(&mut conn, &filter, asked.order, after, asked.limit).await?;
    drop(conn);
    let cursor = page.next.map(|position| cursor::write(position, &asked.signature()));
    Ok(Json(Records { records: page.records, cursor }))
}

/// Count records
///
/// How many of each status the caller may see.
#[utoipa::path(
    get, path = "/records/counts", operation_id = "countRecords", tag = tags::RECORDS,
    params(Filters, Caller),
    responses((status = 200, description = "The counts", body = Counts), FindProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn counts(
    State(state): State<AppState>,
    caller: Caller,
    query: Pairs,
) -> Result<Json<Counts>, Problem> {
    let asked = Asked::read(query)?;
    if asked.pages {
        return Err(bad("counts take no cursor, limit or order"));
    }
    let filter = asked.filter(&caller, &state.settings.events)?;
    let mut conn = state.db.acquire().await?;
    Ok(Json(find::counts(&mut conn, &filter).await?))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest).detail(detail)
}

/// The query as it was asked, checked and nothing more.
#[derive(Debug)]
struct Asked {
    /// Sorted, each once; none: all.
    statuses: Vec<Status>,
    /// Sorted, each once; none: all.
    events: Vec<String>,
    created_by: Option<String>,
    waiting: Option<f64>,
    tracking_id: Option<String>,
    registration_number: Option<String>,
    q: Option<String>,
    order: Order,
    limit: usize,
    cursor: Option<String>,
    /// Whether something was said of pages.
    pages: bool,
}

impl Asked {
    fn read(query: Pairs) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = query else {
            return Err(bad("the query is not understood"));
        };
        let mut asked = Self {
            statuses: Vec::new(),
            events: Vec::new(),
            created_by: None,
            waiting: None,
            tracking_id: None,
            registration_number: None,
            q: None,
            order: Order::Newest,
            limit: LIMIT,
            cursor: None,
            pages: false,
        };
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in pairs {
            let repeats = name == "status" || name == "event";
            if !repeats && seen.contains(&name) {
                return Err(bad("a parameter other than status and event is there twice"));
            }
            asked.take(&name, value)?;
            seen.push(name);
        }
        asked.statuses.sort_unstable_by_key(|status| status.as_str());
        asked.statuses.dedup();
        asked.events.sort_unstable();
        asked.events.dedup();
        if asked.events.len() > EVENTS_MAX {
            return Err(bad(format!("at most {EVENTS_MAX} events may be named")));
        }
        asked.waits()?;
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), Problem> {
        match name {
            "status" => {
                let status = Status::ALL.into_iter().find(|s| s.as_str() == value);
                let known = || Status::ALL.map(Status::as_str).join(", ");
                self.statuses.push(status.ok_or_else(|| bad(format!("status is one of {}", known())))?);
            }
            "event" => self.events.push(Some(value).filter(|v| is_event(v)).ok_or_else(|| bad("event is no event"))?),
            "createdBy" => self.created_by = Some(text("createdBy", value)?),
            "trackingId" => {
                let id = value.to_ascii_uppercase();
                let fits = id.len() == 7 && id.bytes().all(|b| b.is_ascii_alphanumeric());
                self.tracking_id =
                    Some(Some(id).filter(|_| fits).ok_or_else(|| bad("trackingId is seven characters"))?);
            }
            "registrationNumber" => {
                let fits = is_registration_number(&value);
                self.registration_number =
                    Some(Some(value).filter(|_| fits).ok_or_else(|| bad("registrationNumber is none"))?);
            }
            "q" => self.q = Some(text("q", value.trim().to_owned())?),
            "waitingLongerThan" => {
                let form =
                    "waitingLongerThan is seconds, or an ISO 8601 duration of weeks, days, hours, minutes and seconds";
                self.waiting = Some(seconds(&value).ok_or_else(|| bad(form))?);
            }
            "order" => {
                self.pages = true;
                self.order = match value.as_str() {
                    "asc" => Order::Oldest,
                    "desc" => Order::Newest,
                    _ => return Err(bad("order is asc or desc")),
                };
            }
            "limit" => {
                self.pages = true;
                let limit = value.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                self.limit = limit.ok_or_else(|| bad(format!("limit is 1 to {LIMIT_MAX}")))?;
            }
            "cursor" => {
                self.pages = true;
                self.cursor = Some(value);
            }
            _ => {
                let known = "status, event, createdBy, trackingId, registrationNumber, q, waitingLongerThan, order, limit, cursor";
                return Err(bad(format!("the parameters are {known}")));
            }
        }
        Ok(())
    }

    /// Who waits for a verdict has one status.
    fn waits(&mut self) -> Result<(), Problem> {
        if self.waiting.is_none() {
            return Ok(());
        }
        if !self.statuses.is_empty() && !self.statuses.contains(&Status::WaitingValidation) {
            return Err(bad("waitingLongerThan finds records in waiting_validation only"));
        }
        self.statuses = vec![Status::WaitingValidation];
        Ok(())
    }

    /// What of it the caller may see. Where no event is named all configured ones are meant.
    fn filter(&self, caller: &Caller, configured: &[String]) -> Result<Filter, Problem> {
        let named = if self.events.is_empty() { configured } else { &self.events };
        let principal = &caller.principal;
        let own = self.created_by.as_ref() == Some(&principal.id);
        let events: Vec<String> = if own || principal.record.is_some() {
            named.to_vec()
        } else {
            named.iter().filter(|event| principal.scopes.allows(Right::Read, event)).cloned().collect()
        };
        // What was asked for by name is refused rather than left out.
        if events.is_empty() || (!self.events.is_empty() && events.len() < named.len()) {
            return Err(Problem::insufficient("record.read")
                .detail("needs the scope record.read for these events, or createdBy oneself"));
        }
        Ok(Filter {
            events,
            statuses: if self.statuses.is_empty() { Status::ALL.to_vec() } else { self.statuses.clone() },
            created_by: self.created_by.clone(),
            waiting: self.waiting,
            tracking_id: self.tracking_id.clone(),
            registration_number: self.registration_number.clone(),
            q: self.q.clone(),
            record_id: principal.record.map(|grant| grant.record_id),
        })
    }

    /// What a cursor is bound to: everything but where and how long the page is.
    fn signature(&self) -> String {
        format!(
            "{:?}",
            (
                (&self.statuses, &self.events, &self.created_by, self.waiting),
                (&self.tracking_id, &self.registration_number, &self.q, self.order)
            )
        )
    }
}

fn is_event(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (2..=31).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(rest)
}

fn text(name: &str, value: String) -> Result<String, Problem> {
    let fits = (1..=200).contains(&value.chars().count()) && !value.contains(char::is_control);
    Some(value).filter(|_| fits).ok_or_else(|| bad(format!("{name} is 1 to 200 printable characters")))
}
