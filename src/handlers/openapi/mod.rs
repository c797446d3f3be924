//! The description of the API (`OpenAPI` 3.1), made from the routes and the types that serve it.
//!
//! Every public route is registered together with its description (`routes!` in `super::routes`), so there is none
//! without. [`document`] is what `/openapi.json` serves and `crvs-outbox openapi` prints; `docs/openapi.json` is
//! that of the usual settings, and a test holds the two together.
//!
//! A handler's own `#[utoipa::path]` says what it takes and gives; what many share is here: sets of problems
//! (`problems`), parameters, headers and the answer to a write (`shapes`), bodies (`bodies`), waits (`waiting`), examples
//! (`examples`), and the rules of a declaration (`declaration.json`).

pub(super) mod bodies;
mod everywhere;
mod examples;
pub(super) mod exchange;
pub(super) mod finding;
mod finish;
mod peers;
pub(super) mod problems;
pub(super) mod reader;
pub(super) mod shapes;
pub(super) mod waiting;

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use self::peers::{GraphQlErrors, TrpcErrors};
use self::problems::{OpenProblems, ProblemBody};
use self::shapes::{BatchItem, Event};
use super::changes::Answer as Changes;
use crate::records::commands::TransactionView;

/// Names of groups of operations.
pub(super) mod tags {
    pub(in crate::handlers) const RECORDS: &str = "records";
    pub(in crate::handlers) const REVIEW: &str = "review";
    pub(in crate::handlers) const COUNTRY: &str = "country";
    pub(in crate::handlers) const TRANSACTIONS: &str = "transactions";
    pub(in crate::handlers) const ATTACHMENTS: &str = "attachments";
    pub(in crate::handlers) const SERVICE: &str = "service";
}

/// A declaration; [`finish`] puts `declaration.json` in the place of this schema.
pub(super) struct Declaration;

impl utoipa::ToSchema for Declaration {}

impl utoipa::PartialSchema for Declaration {
    fn schema() -> RefOr<utoipa::openapi::Schema> {
        RefOr::default()
    }
}

/// What the description says before any operation.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "crvs-outbox",
        description = "Accepts declarations of births, deaths and marriages in one transaction and delivers every consequence \
            exactly once in effect. Every write carries a transaction id that the client chooses, and may be repeated for ever: \
            the answer is the same, byte for byte. Errors are problems (RFC 9457) whose `type` is part of the interface; what \
            the caller may not read answers 404.",
    ),
    tags(
        (name = tags::RECORDS, description = "Declaring and reading"),
        (name = tags::REVIEW, description = "What registration agents and registrars do to a record"),
        (name = tags::COUNTRY, description = "The country's verdict on a requested registration"),
        (name = tags::TRANSACTIONS, description = "What became of a request"),
        (name = tags::ATTACHMENTS, description = "Documents of evidence"),
        (name = tags::SERVICE, description = "Public keys, the check of a token, and this description; no token is asked for"),
    ),
    components(schemas(
        ProblemBody,
        TransactionView,
        Changes<'static>,
        BatchItem,
        Declaration,
        Event,
        exchange::ErrorCode,
        GraphQlErrors,
        TrpcErrors,
    )),
    modifiers(&Shared),
)]
pub(super) struct Base;

struct Shared;

impl Modify for Shared {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("JWT".to_owned());
        bearer.description = Some(
            "A JSON Web Token (RS256, ES256 or EdDSA) of a trusted issuer, for this audience; its `scope` grants what an operation asks for."
                .to_owned(),
        );
        let components = openapi.components.get_or_insert_default();
        components.security_schemes.insert("bearer".to_owned(), SecurityScheme::Http(bearer).into());
        components.responses.insert("Accepted".to_owned(), shapes::accepted().into());
        components.parameters.insert(everywhere::REQUEST_ID.to_owned(), everywhere::request_id().into());
        components.headers.extend(everywhere::headers().map(|(name, header)| (name.to_owned(), header.into())));
    }
}

/// The whole description, for a service that registers these events.
pub fn document(events: &[String]) -> Value {
    finish::finished(super::routes().into_openapi(), events)
}

/// The description as it is served.
#[derive(Clone)]
pub(super) struct Served(Arc<str>);

impl Served {
    pub(super) fn new(openapi: utoipa::openapi::OpenApi, events: &[String]) -> Self {
        Self(finish::finished(openapi, events).to_string().into())
    }
}

/// This description
///
/// For tools that generate clients, and for the reader at `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "readDescription", tag = tags::SERVICE,
    responses((status = 200, description = "OpenAPI 3.1", body = Object), OpenProblems),
)]
pub(super) async fn read(Extension(Served(text)): Extension<Served>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, text.to_string())
}
