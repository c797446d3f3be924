//! `/events/{procedures}`: the tRPC 11 endpoint of OpenCRVS's events service, with superjson, for country configs since
//! 1.9.
//!
//! | procedure | by | what |
//! |---|---|---|
//! | `event.actions.{action}.accept`, `….reject` | POST | the verdict on a requested action ([`actions`]) |
//! | `locations.list` | GET | the locations of the configuration |
//!
//! With `?batch=1` the path names several, separated by commas, and `0`, `1`, … in the input are theirs; each is done by
//! itself, in that order. Without it, there is one and the input is its own. An input is `{"json": …}` and a `meta` that is
//! not looked at; an answer is `{"result":{"data":{"json":…}}}` or `{"error":{"json":…}}` ([`answer`]).

mod actions;
mod answer;

use std::collections::HashMap;

use axum::RequestExt as _;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use self::actions::Procedure;
use self::answer::{Call, Outcome};
use crate::handlers::extract::Caller;
use crate::handlers::openapi::problems::{TrpcProblems, TrpcReadProblems};
use crate::handlers::openapi::tags;
use crate::handlers::problem::{Kind, Problem};
use crate::handlers::{AppState, body};

/// Procedures of one request at most: each answers with a whole event.
const CALLS: usize = 20;

/// A place, as country configs ask for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Location {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The place that it is in.
    pub parent_id: Option<Uuid>,
    /// Until when it is one: a moment of RFC 3339.
    pub valid_until: Option<String>,
    /// For example `CRVS_OFFICE`.
    pub location_type: Option<String>,
}

/// What a request's line says.
#[derive(Clone, Debug)]
struct Asked {
    calls: Vec<Call>,
    is_batch: bool,
    /// The methods of what is not called by this one.
    elsewhere: &'static str,
}

impl Asked {
    async fn of(request: &mut Request, elsewhere: &'static str) -> Self {
        let path = request.extract_parts::<Path<String>>().await.map_or_else(|_no_text| String::new(), |Path(p)| p);
        let is_batch = request.uri().query().unwrap_or_default().split('&').any(|pair| pair == "batch=1");
        let names: Vec<&str> = if is_batch { path.split(',').collect() } else { vec![&path] };
        Self { calls: names.into_iter().map(Call::of).collect(), is_batch, elsewhere }
    }
}

/// What is called with POST.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes what Asked reads")]
struct Verdicts {
    /// Names of procedures, separated by commas.
    #[param(pattern = r"^event\.actions\.[a-z]{1,20}\.(accept|reject)$", example = "event.actions.register.accept")]
    procedures: String,
}

/// What is called with GET.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes what Asked reads")]
struct Lists {
    /// Names of procedures, separated by commas.
    #[param(pattern = r"^locations\.list$", example = "locations.list")]
    procedures: String,
}

/// What may be in the query of both.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what Asked reads")]
struct Batch {
    /// `1`: the path names several procedures, and input and answer are of several.
    batch: Option<String>,
    /// What is called with GET has its input here; `locations.list` does not look at it.
    input: Option<String>,
}

/// The input of one verdict; with `batch=1`, of several under `0`, `1`, …
#[derive(ToSchema)]
#[schema(as = OpenCrvsVerdict)]
#[expect(dead_code, reason = "describes what actions.rs reads")]
pub(in crate::handlers) struct InputBody {
    #[schema(value_type = Object)]
    json: Value,
}

/// Accept or reject requested actions as OpenCRVS since 1.9
///
/// `event.actions.{action}.accept` or `.reject`, by tRPC 11. The token's record and action have to be those of the input.
/// An action that was accepted stays as it is when it is accepted again.
#[utoipa::path(
    post, path = "/events/{procedures}", operation_id = "decideActions", tag = tags::COUNTRY,
    params(Verdicts, Batch, Caller),
    request_body = InputBody,
    responses(
        (status = 200, description = "A result, or those of a batch: the record as an EventDocument.", body = Value),
        (status = 207, description = "Results and errors of a batch.", body = Value),
        TrpcProblems,
    ),
    security(("bearer" = ["record.confirm-registration"]), ("bearer" = ["record.reject-registration"])),
)]
pub(in crate::handlers) async fn mutate(
    State(state): State<AppState>,
    caller: Result<Caller, Problem>,
    mut request: Request,
) -> Response {
    let asked = Asked::of(&mut request, "GET, HEAD").await;
    match decide(&state, caller, &asked, request).await {
        Ok(outcomes) => answer::answered(&asked, &outcomes),
        Err(problem) => answer::refused(&asked, &problem),
    }
}

async fn decide(
    state: &AppState,
    caller: Result<Caller, Problem>,
    asked: &Asked,
    request: Request,
) -> Result<Vec<Outcome>, Problem> {
    let caller = caller?;
    if asked.calls.len() > CALLS {
        return Err(Problem::new(Kind::TooManyItems).detail("at most 20 procedures are called at once"));
    }
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let inputs: HashMap<String, &RawValue> = if asked.is_batch { body::walked(&bytes)? } else { HashMap::new() };
    if !asked.is_batch {
        body::fingerprint("", &bytes)?;
    }
    let mut outcomes = Vec::with_capacity(asked.calls.len());
    for (at, call) in asked.calls.iter().enumerate() {
        let input = match inputs.get(&at.to_string()) {
            Some(input) => input.get().as_bytes(),
            None if asked.is_batch => &[],
            None => &bytes,
        };
        let decided = match &call.procedure {
            Some(procedure) => procedure.decide(state, &caller, input).await,
            None => Err(answer::no_such_procedure()),
        };
        outcomes.push(decided);
    }
    Ok(outcomes)
}

/// List locations as OpenCRVS since 1.9
///
/// `locations.list`, by tRPC 11: what the configuration says.
#[utoipa::path(
    get, path = "/events/{procedures}", operation_id = "listLocations", tag = tags::COUNTRY,
    params(Lists, Batch, Caller),
    responses(
        (status = 200, description = "A result, or those of a batch: the locations.", body = Value),
        (status = 207, description = "Results and errors of a batch.", body = Value),
        TrpcReadProblems,
    ),
    security(("bearer" = [])),
)]
pub(in crate::handlers) async fn query(
    State(state): State<AppState>,
    caller: Result<Caller, Problem>,
    mut request: Request,
) -> Response {
    let asked = Asked::of(&mut request, "POST").await;
    if let Err(problem) = caller {
        return answer::refused(&asked, &problem);
    }
    let list = |call: &Call| match &call.procedure {
        Some(Procedure::ListLocations) => answer::raw(&state.settings.opencrvs.locations),
        Some(Procedure::Decide { .. }) => Err(Problem::new(Kind::MethodNotAllowed)),
        None => Err(answer::no_such_procedure()),
    };
    let outcomes: Vec<Outcome> = asked.calls.iter().map(list).collect();
    answer::answered(&asked, &outcomes)
}
