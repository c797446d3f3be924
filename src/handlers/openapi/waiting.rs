//! What is said of conditional and patient reads: `ETag`, `If-None-Match`, `Prefer: wait`, the feed of changes.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

use super::shapes::{always, integer, parameter, sometimes, string};

/// `If-None-Match` and `Prefer`.
pub(in crate::handlers) struct Patience;

impl IntoParams for Patience {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let known = string(None, "\"7d865e959b2466918c9863afca942d0f\"");
        let prefer = string(None, "wait=30");
        vec![
            parameter("If-None-Match", ParameterIn::Header, known, "The ETag of what the client has (RFC 9110)."),
            parameter(
                "Prefer",
                ParameterIn::Header,
                prefer,
                "`wait=N` (RFC 7240): answer once it is settled, with If-None-Match once it differs, at the latest after N \
                 seconds; more than 60 are taken for 60.",
            ),
        ]
    }
}

/// What a reader of bytes may say: `If-None-Match`, `Range` and `If-Range`.
pub(in crate::handlers) struct PartOf;

impl IntoParams for PartOf {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let etag = || string(None, "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
        let range = string(None, "bytes=0-65535");
        vec![
            parameter("If-None-Match", ParameterIn::Header, etag(), "The ETag of what the client has (RFC 9110)."),
            parameter("Range", ParameterIn::Header, range, "One range of bytes; anything else is answered whole."),
            parameter("If-Range", ParameterIn::Header, etag(), "The ETag that the range is a part of."),
        ]
    }
}

/// What reading a transaction answers.
pub(in crate::handlers) struct TransactionRead;

impl IntoResponses for TransactionRead {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = Content::new(Some(Ref::from_schema_name("Transaction")));
        let found = ResponseBuilder::new().description("The transaction").content("application/json", content);
        let same = ResponseBuilder::new()
            .description("It is what the client has: with `Prefer: wait`, to the end of the wait");
        let both = [("200", found), ("304", same)];
        both.into_iter().map(|(status, response)| (status.to_owned(), with_headers(response).into())).collect()
    }
}

fn with_headers(response: ResponseBuilder) -> Response {
    let text = |description: &str| HeaderBuilder::new().description(Some(description));
    let etag = text("Tells whether it is the same; weak where the answer is packed.")
        .schema(Some(string(Some("^(W/)?\"[0-9a-f]{32}\"$"), "\"7d865e959b2466918c9863afca942d0f\"")));
    let wait = text("There while it is not settled: seconds after which to ask again.")
        .schema(Some(integer().minimum(Some(1))));
    let applied = text("There if a wait was asked for: how long it would have been.")
        .schema(Some(string(Some("^wait=[0-9]{1,2}$"), "wait=30")));
    response
        .header("ETag", always(etag))
        .header("Cache-Control", always(text("Whoever keeps it asks before they use it again.")))
        .header("Retry-After", sometimes(wait))
        .header("Preference-Applied", sometimes(applied))
        .build()
}

/// What is asked of the feed.
pub(in crate::handlers) struct FeedQuery;

impl IntoParams for FeedQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = string(None, "AeQF5AUAsPudvwYA");
        let wait = integer().minimum(Some(0)).examples([json!(30)]).build();
        let limit = integer().minimum(Some(1)).maximum(Some(500)).default(Some(json!(200))).build();
        vec![
            parameter(
                "cursor",
                ParameterIn::Query,
                cursor,
                "Where to go on: a cursor of an earlier answer. Without one, no changes and the cursor of now.",
            ),
            parameter(
                "wait",
                ParameterIn::Query,
                wait,
                "Seconds to wait for a change if there is none; more than 60 are taken for 60.",
            ),
            parameter("limit", ParameterIn::Query, limit, "Most changes of the answer."),
            parameter(
                "Last-Event-ID",
                ParameterIn::Header,
                string(None, ""),
                "Where to go on with a stream of events: the id of the last one. Counts before `cursor`, and only with `Accept: text/event-stream`.",
            ),
        ]
    }
}

/// What the feed answers.
pub(in crate::handlers) struct FeedRead;

impl IntoResponses for FeedRead {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let events = ContentBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).description(Some(
                "With `Accept: text/event-stream`: an `event: change` for each, `id` a cursor to resume from, `data` a Change.",
            ))))
            .example(Some(json!("event: change\nid: AeQF5AUAsPudvwYA\ndata: {\"transactionId\":\"draft-0001\",…}\n\n")))
            .build();
        let response = ResponseBuilder::new()
            .description("What moved after the cursor, each transaction once, as it is now")
            .content("application/json", Content::new(Some(Ref::from_schema_name("Changes"))))
            .content("text/event-stream", events)
            .header("Cache-Control", not_kept());
        [("200".to_owned(), response.build().into())].into()
    }
}

fn not_kept() -> Header {
    always(HeaderBuilder::new().description(Some("no-store")))
}
