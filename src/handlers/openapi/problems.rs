//! Which problems an operation may answer with: a set of [`Kind`]s per operation, and the responses that follow from it.
//!
//! The status, the `type` and the title of each come from [`Kind`], so that what is described is what is sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{AllOfBuilder, Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::super::problem::Kind;
use super::shapes::{always, integer, sometimes};

/// What every operation may answer.
const EDGE: &[Kind] = &[Kind::HeadersTooLarge, Kind::UnsupportedEncoding, Kind::TimedOut, Kind::Internal];

/// What every operation that asks for a token may answer beyond that.
const CALLER: &[Kind] = &[Kind::Unauthorized, Kind::RateLimited, Kind::Unavailable];

/// What reading a body may answer.
const BODY: &[Kind] = &[
    Kind::BodyMissing,
    Kind::BodyUnreadable,
    Kind::BodyTooSlow,
    Kind::NotJson,
    Kind::BadRequest,
    Kind::TooLarge,
    Kind::UnsupportedType,
    Kind::Busy,
];

/// What a transaction id may answer.
const KEY: &[Kind] = &[Kind::KeyMissing, Kind::KeyInvalid, Kind::KeyMismatch, Kind::KeyReused, Kind::InProgress];

/// What a declaration and its attachments may answer.
const DECLARATION: &[Kind] = &[Kind::InvalidDeclaration, Kind::InvalidAttachment, Kind::UnknownAttachment];

/// Names a set of problems, for the `responses(…)` of operations.
macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = [$($kinds:expr),* $(,)?];)+) => {$(
        $(#[$doc])*
        pub(in crate::handlers) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[EDGE, $(&$kinds),*])
            }
        }
    )+};
}

sets! {
    /// Of an operation without a token.
    OpenProblems = [];
    /// Of checking a token.
    VerifyProblems = [BODY, [Kind::RateLimited, Kind::Unavailable]];
    /// Of exchanging a token; the rest are errors of OAuth.
    ExchangeProblems = [[Kind::RateLimited, Kind::Unavailable, Kind::BodyTooSlow, Kind::TooLarge, Kind::Busy]];
    /// Of files that are there or not.
    FileProblems = [[Kind::NotFound]];
    /// Of reading by an id.
    ReadProblems = [CALLER, [Kind::InvalidId, Kind::NotFound]];
    /// Of reading by an id, patiently.
    PatientProblems = [CALLER, [Kind::InvalidId, Kind::NotFound, Kind::TooManyWaiting]];
    /// Of asking for many.
    QueryProblems = [CALLER, BODY];
    /// Of the feed.
    FeedProblems = [
        CALLER,
        [Kind::BadRequest, Kind::CursorInvalid, Kind::CursorExpired, Kind::Forbidden, Kind::TooManyWaiting],
    ];
    /// Of reading an attachment.
    ReadAttachmentProblems = [CALLER, [Kind::InvalidId, Kind::NotFound, Kind::RangeNotSatisfiable]];
    /// Of an upload.
    UploadProblems = [
        CALLER,
        [Kind::InvalidId, Kind::Forbidden, Kind::BodyUnreadable, Kind::BodyTooSlow, Kind::InvalidAttachment, Kind::TooLarge, Kind::DigestMismatch],
    ];
    /// Of a new record.
    SubmitProblems = [CALLER, BODY, KEY, DECLARATION, [Kind::UnknownEvent, Kind::Forbidden, Kind::Overloaded]];
    /// Of a list of new records; those of an item are in the answer.
    BatchProblems = [CALLER, BODY, [Kind::TooManyItems]];
    /// Of finding.
    FindProblems = [CALLER, [Kind::BadRequest, Kind::CursorInvalid, Kind::Forbidden]];
    /// Of a corrected declaration.
    CorrectProblems = [CALLER, BODY, KEY, DECLARATION, ACT];
    /// Of an action that brings no declaration.
    ActProblems = [CALLER, BODY, KEY, ACT];
    /// Of a verdict by GraphQL.
    GraphQlKinds = [CALLER, BODY, ACT, [Kind::InProgress, Kind::InvalidDeclaration]];
    /// Of a verdict by tRPC.
    TrpcKinds = [CALLER, BODY, ACT, [Kind::InProgress, Kind::InvalidDeclaration, Kind::MethodNotAllowed]];
    /// Of reading by tRPC.
    TrpcReadKinds = [CALLER, [Kind::NotFound, Kind::MethodNotAllowed]];
    /// Of the country's verdict.
    VerdictProblems = [
        CALLER, BODY, ACT,
        [Kind::InProgress, Kind::InvalidDeclaration],
    ];
}

/// The same problems, also in the words of a protocol that has its own.
macro_rules! told_as {
    ($($(#[$doc:meta])* $name:ident = $kinds:ident in $schema:literal;)+) => {$(
        $(#[$doc])*
        pub(in crate::handlers) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                in_words($kinds::responses(), $schema)
            }
        }
    )+};
}

told_as! {
    /// By GraphQL.
    GraphQlProblems = GraphQlKinds in "GraphQlErrors";
    /// By tRPC, of a verdict.
    TrpcProblems = TrpcKinds in "TrpcErrors";
    /// By tRPC, of reading.
    TrpcReadProblems = TrpcReadKinds in "TrpcErrors";
}

fn in_words(mut responses: BTreeMap<String, RefOr<Response>>, schema: &str) -> BTreeMap<String, RefOr<Response>> {
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
            response.content.insert("application/json".to_owned(), content.into());
        }
    }
    responses
}

/// What an action on a record may answer.
const ACT: &[Kind] = &[Kind::InvalidId, Kind::Forbidden, Kind::NotFound, Kind::Conflict, Kind::Overloaded];

/// A problem as RFC 9457 has it. Members that are not named here may be added.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what problem.rs writes")]
pub(in crate::handlers) struct ProblemBody {
    /// What kind of problem it is: part of the interface, and never changed.
    #[schema(rename = "type", pattern = "^urn:crvs-outbox:problem:[a-z-]+$")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: i32,
    /// What is wrong here, in words: names of members, places and rules, never a value of the request.
    #[schema(required = false)]
    detail: String,
    /// The request it is about: its `X-Request-Id`, which the logs have too.
    #[schema(required = false, pattern = "^urn:crvs-outbox:request:[0-9A-Fa-f-]{16,64}$")]
    instance: String,
    /// Everything that is wrong with the body.
    #[schema(required = false, min_items = 1)]
    errors: Vec<FaultBody>,
}

/// One thing that is wrong with a body.
#[derive(ToSchema)]
#[schema(as = Fault)]
#[expect(dead_code, reason = "describes what problem.rs writes")]
pub(in crate::handlers) struct FaultBody {
    /// Where, as a JSON pointer (RFC 6901).
    pointer: String,
    /// What is wrong there, in words.
    detail: String,
}

/// A response per status, with the kinds that have it.
fn responses(sets: &[&[Kind]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in sets.iter().copied().flatten().copied() {
        let kinds = by_status.entry(kind.parts().0.as_str().to_owned()).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    by_status.into_iter().map(|(status, kinds)| (status, response(&kinds).into())).collect()
}

fn response(kinds: &[Kind]) -> Response {
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.parts().2).collect();
    let examples = kinds.iter().map(|kind| (kind.parts().1, example(*kind)));
    let content = ContentBuilder::new().schema(Some(schema(kinds))).examples_from_iter(examples).build();
    let response = ResponseBuilder::new().description(titles.join("; ")).content("application/problem+json", content);
    headers(kinds).into_iter().fold(response, |response, (name, header)| response.header(name, header)).build()
}

fn schema(kinds: &[Kind]) -> Schema {
    let types = kinds.iter().map(|kind| urn(*kind));
    let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(types));
    let status = kinds.iter().take(1).map(|kind| kind.parts().0.as_u16());
    let status = integer().enum_values(Some(status));
    let narrowed: Object = ObjectBuilder::new().property("type", kind).property("status", status).build();
    Schema::AllOf(AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(narrowed).build())
}

fn urn(kind: Kind) -> String {
    format!("urn:crvs-outbox:problem:{}", kind.parts().1)
}

fn example(kind: Kind) -> utoipa::openapi::example::Example {
    let (status, _, title) = kind.parts();
    let value: Value = json!({ "type": urn(kind), "title": title, "status": status.as_u16() });
    utoipa::openapi::example::ExampleBuilder::new().summary(title).value(Some(value)).build()
}

fn headers(kinds: &[Kind]) -> Vec<(&'static str, Header)> {
    let mut headers = Vec::new();
    let challenge = HeaderBuilder::new().description(Some("What token is asked for (RFC 6750).".to_owned()));
    if kinds.contains(&Kind::Unauthorized) {
        headers.push(("WWW-Authenticate", always(challenge)));
    } else if kinds.contains(&Kind::Forbidden) {
        headers.push(("WWW-Authenticate", sometimes(challenge)));
    }
    if kinds.contains(&Kind::UnsupportedEncoding) {
        let codings = HeaderBuilder::new().description(Some("There if it is the encoding: what is accepted."));
        headers.push(("Accept-Encoding", sometimes(codings)));
    }
    let passing = |kind: &Kind| {
        matches!(
            kind,
            Kind::InProgress
                | Kind::Overloaded
                | Kind::RateLimited
                | Kind::TimedOut
                | Kind::TooManyWaiting
                | Kind::Unavailable
                | Kind::Busy
        )
    };
    if kinds.iter().any(passing) {
        let wait = HeaderBuilder::new()
            .schema(Some(integer().minimum(Some(1))))
            .description(Some("Seconds after which the same request may be sent again.".to_owned()));
        headers.push(("Retry-After", if kinds.iter().all(passing) { always(wait) } else { sometimes(wait) }));
    }
    headers
}
