//! `POST /graphql`: one schema for country configs ([`country`]) and clients ([`clients`]).
//!
//! Country configs look at the HTTP status and at whether the body is JSON, not at `errors`: for them a refusal has the
//! status of its problem, and what has 200 is done. Clients are answered as by Apollo's server: `errors` with 200. For
//! both, no valid token is 401, and what is no valid GraphQL of this schema is 400.
//!
//! `errors` hold a message without any value of the request and `extensions.code`. There are no batches, uploads,
//! subscriptions and persisted queries. The schema is told only where `[opencrvs] introspection` is on.

mod answer;
mod bounds;
mod clients;
mod country;
mod inputs;
mod scalars;

use async_graphql::{EmptySubscription, MergedObject, Schema};
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use utoipa::ToSchema;

use self::answer::{answered, refused};
use self::clients::{ClientMutation, ClientQuery};
use self::country::CountryMutation;
use super::super::extract::Caller;
use super::super::openapi::problems::GraphQlProblems;
use super::super::openapi::tags;
use super::super::problem::{Kind, Problem};
use super::super::{AppState, body};

/// Fields in one another at most. The usual introspection query has 15.
const DEPTH: usize = 16;

/// Fields of a request at most, each as often as it is named. What is done counts as 100, a look as 20.
const COMPLEXITY: usize = 400;

/// Bytes of a document at most: what is declared is in the variables. It is parsed before anything of it is counted.
const DOCUMENT: usize = 64 * 1024;

/// How often a body is held while it is worked on, beside the first time: as variables, as the argument, as JSON and as the
/// declaration that is made of it.
const COPIES: usize = 3;

/// What is asked.
#[derive(Debug, Default, MergedObject)]
pub(in crate::handlers) struct Query(ClientQuery);

/// What is done.
#[derive(Debug, Default, MergedObject)]
pub(in crate::handlers) struct Mutation(CountryMutation, ClientMutation);

/// All of it; cheap to clone.
pub(in crate::handlers) type Root = Schema<Query, Mutation, EmptySubscription>;

/// The schema, which tells of itself only with `introspection`.
pub(in crate::handlers) fn schema(introspection: bool) -> Root {
    let schema = Schema::build(Query::default(), Mutation::default(), EmptySubscription);
    let schema = schema.limit_depth(DEPTH).limit_complexity(COMPLEXITY).limit_directives(8).disable_suggestions();
    if introspection { schema.finish() } else { schema.disable_introspection().finish() }
}

/// A request of GraphQL over HTTP.
#[derive(ToSchema)]
#[schema(as = GraphQlRequest)]
#[expect(dead_code, reason = "describes what async-graphql reads")]
struct RequestBody {
    /// A document of one operation, or of several of which one is named.
    query: String,
    /// Which one.
    #[serde(rename = "operationName")]
    operation_name: Option<String>,
    /// Its variables.
    variables: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Confirm, reject, submit and poll as OpenCRVS does
///
/// GraphQL with the operations of OpenCRVS that country configs and clients send. A refused verdict has the status of its
/// problem, whatever else is refused has 200 and `errors`.
#[utoipa::path(
    post, path = "/graphql", operation_id = "graphql", tag = tags::COUNTRY,
    params(Caller), request_body = RequestBody,
    responses((status = 200, description = "`data`, or `errors` of a client's request.", body = Object), GraphQlProblems),
    security(("bearer" = [])),
)]
pub(in crate::handlers) async fn execute(
    State(state): State<AppState>,
    Extension(schema): Extension<Root>,
    caller: Result<Caller, Problem>,
    request: Request,
) -> Response {
    match run(state, &schema, caller, request).await {
        Ok(response) => answered(response),
        Err(problem) => refused(&problem),
    }
}

async fn run(
    state: AppState,
    schema: &Root,
    caller: Result<Caller, Problem>,
    request: Request,
) -> Result<async_graphql::Response, Problem> {
    let caller = caller?;
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let size = bytes.len();
    body::hold_more(&parts, size * COPIES).await?;
    let mut request = body::off_thread(size, move || body::walked::<async_graphql::Request>(&bytes)).await?;
    if request.query.len() > DOCUMENT {
        return Err(
            Problem::new(Kind::BadRequest).detail("the document is too long: send what is declared as variables")
        );
    }
    // What cannot be parsed is said by who executes it.
    if request.parsed_query().is_ok_and(|document| !bounds::holds(document)) {
        return Err(
            Problem::new(Kind::BadRequest).detail("the document is too large, or has a variable inside a literal")
        );
    }
    Ok(Box::pin(schema.execute(request.data(state).data(caller))).await)
}
