//! What operations share: parameters, headers, the answer to a write.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AllOfBuilder, Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Required, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use super::super::extract::{Caller, RecordId};
use super::everywhere::EVERYWHERE;
use super::examples;

/// The form of a transaction id.
const TRANSACTION_ID: &str = "^[A-Za-z0-9._:-]{8,128}$";

/// The header may be bare or in quotes.
const KEY: &str = "^([A-Za-z0-9._:-]{8,128}|\"[A-Za-z0-9._:-]{8,128}\")$";

/// Marks a header that is always there; [`super::finish`] writes it as `OpenAPI` does.
pub(super) const ALWAYS: &str = "x-always";

/// A string of a form, with an example of it.
pub(super) fn string(pattern: Option<&str>, example: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(pattern).examples([json!(example)]).build()
}

pub(super) fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

/// A header that every such answer has.
pub(super) fn always(header: HeaderBuilder) -> Header {
    header.extensions(Some(ExtensionsBuilder::new().add(ALWAYS, true).build())).build()
}

/// A header that such an answer may have.
pub(super) fn sometimes(header: HeaderBuilder) -> Header {
    header.build()
}

pub(super) fn parameter(name: &str, place: ParameterIn, schema: Object, description: &str) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    parameter.schema(Some(schema)).description(Some(description)).build()
}

impl IntoParams for Caller {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = string(None, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let description =
            "W3C trace context; it goes on with what is sent because of this request. Anything else is ignored.";
        vec![parameter("traceparent", ParameterIn::Header, schema, description)]
    }
}

impl IntoParams for RecordId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
            .examples([json!(examples::RECORD_ID)]);
        vec![parameter("id", ParameterIn::Path, schema.build(), "The record.")]
    }
}

/// The header of a write.
pub(in crate::handlers) struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The id of this intention, chosen by the client, unique across users and kept for ever; bare or in \
             quotes. Either this header or the member `transactionId` has to be there; if both are, they agree.";
        let schema = string(Some(KEY), examples::TRANSACTION_ID);
        vec![parameter("Idempotency-Key", ParameterIn::Header, schema, description)]
    }
}

/// The transaction in the path.
pub(in crate::handlers) struct TransactionPath;

impl IntoParams for TransactionPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = string(Some(TRANSACTION_ID), examples::TRANSACTION_ID);
        vec![parameter("transactionId", ParameterIn::Path, schema, "The client's transaction id.")]
    }
}

/// The attachment in the path.
pub(in crate::handlers) struct DigestPath;

impl IntoParams for DigestPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = string(Some("^[0-9A-Fa-f]{64}$"), examples::DIGEST);
        vec![parameter("sha256", ParameterIn::Path, schema, "The SHA-256 of its bytes, in hexadecimal.")]
    }
}

/// The event of a new record; the finished document names those of the configuration.
pub(in crate::handlers) struct Event;

impl ToSchema for Event {}

impl PartialSchema for Event {
    fn schema() -> RefOr<Schema> {
        let mut event = string(Some("^[a-z][a-z0-9-]{1,30}$"), "birth");
        event.description = Some("One of the events that are registered here.".to_owned());
        event.into()
    }
}

/// Bytes as they are.
pub(in crate::handlers) struct Binary;

impl ToSchema for Binary {}

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = Some(SchemaFormat::KnownFormat(KnownFormat::Binary));
        ObjectBuilder::new().schema_type(Type::String).format(format).into()
    }
}

/// A submission in a batch: the same, with its transaction id.
pub(in crate::handlers) struct BatchItem;

impl ToSchema for BatchItem {}

impl PartialSchema for BatchItem {
    fn schema() -> RefOr<Schema> {
        let id = ObjectBuilder::new().schema_type(Type::String);
        let named = ObjectBuilder::new().property("transactionId", id).required("transactionId");
        Schema::AllOf(AllOfBuilder::new().item(Ref::from_schema_name("Submission")).item(named).build()).into()
    }
}

/// How far a submission goes.
pub(in crate::handlers) fn action() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some([json!("notify"), json!("declare"), json!("validate"), json!("register"), Value::Null]))
        .description(Some("How far it goes; without it, as far as the token allows."))
        .build()
}

/// Ids of transactions that are asked for; also what is no id may be asked for.
pub(in crate::handlers) fn asked_ids() -> Array {
    let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\x00]*$"));
    let ids = ArrayBuilder::new().items(id).min_items(Some(1)).max_items(Some(500));
    ids.description(Some("Their ids; one that is none is unknown.")).build()
}

/// The answer to a write.
pub(in crate::handlers) struct Accepted;

impl IntoResponses for Accepted {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [("202".to_owned(), Ref::from_response_name("Accepted").into())].into()
    }
}

/// What [`Accepted`] stands for.
pub(super) fn accepted() -> Response {
    let location = HeaderBuilder::new()
        .schema(Some(string(Some("^/transactions/[A-Za-z0-9._:-]{8,128}$"), "/transactions/draft-0001")))
        .description(Some("Where to ask what became of it.".to_owned()));
    let replayed = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"]))))
        .description(Some("There if this is the answer to an earlier, equal request, byte for byte.".to_owned()));
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Transaction")))
        .example(Some(examples::transaction()))
        .build();
    let response = ResponseBuilder::new()
        .description("Accepted and committed: nothing of it is lost any more, and its consequences will be delivered.")
        .content("application/json", content)
        .header("Location", always(location))
        .header("Idempotency-Replayed", sometimes(replayed));
    let response = EVERYWHERE
        .into_iter()
        .fold(response, |response, name| response.header_ref(name, Ref::new(format!("#/components/headers/{name}"))));
    links().into_iter().fold(response, |response, (name, link)| response.link(name, link)).build()
}

/// What can be done next, with the ids of the answer.
fn links() -> Vec<(&'static str, Link)> {
    let of_record = [
        "readRecord",
        "readHistory",
        "notifyRecord",
        "declareRecord",
        "validateRecord",
        "registerRecord",
        "rejectRecord",
        "markNotDuplicate",
        "archiveRecord",
        "confirmRegistration",
    ];
    let link = |operation: &'static str, parameter: &str, from: &str| {
        let link = LinkBuilder::new().operation_id(operation).parameter(parameter, format!("$response.body#/{from}"));
        (operation, link.build())
    };
    let mut links: Vec<_> = of_record.into_iter().map(|operation| link(operation, "id", "record/id")).collect();
    links.push(link("readTransaction", "transactionId", "transactionId"));
    links
}
