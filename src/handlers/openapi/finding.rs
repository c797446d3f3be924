//! What is asked of `GET /records` and `GET /records/counts`.

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

use super::shapes::{integer, parameter, string};

/// Text without control characters that is not only white space.
const WORDS: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00-\x1f\x7f-\x9f]*$";

/// Text without control characters.
const PRINTABLE: &str = r"^[^\x00-\x1f\x7f-\x9f]{1,200}$";

/// What [`super::super::decisions`] takes for a registration number.
const NUMBER: &str = r"^[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]([^\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]{0,98}[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff])?$";

/// Seconds, or weeks, days, hours, minutes and seconds as ISO 8601 has them.
const DURATION: &str = concat!(
    "^([0-9]{1,10}",
    "|P([0-9]{1,4}W([0-9]{1,4}D)?|[0-9]{1,4}D)(T([0-9]{1,4}H([0-9]{1,4}M)?([0-9]{1,4}S)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))?",
    "|PT([0-9]{1,4}H([0-9]{1,4}M)?([0-9]{1,4}S)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))$",
);

/// What records are counted.
pub(in crate::handlers) struct Filters;

impl IntoParams for Filters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let event = string(Some("^[a-z][a-z0-9-]{1,30}$"), "birth");
        let number = string(Some(NUMBER), "2026B00000017");
        vec![
            several("status", Ref::from_schema_name("RecordStatus").into(), "One of these; without it, any."),
            several(
                "event",
                Schema::Object(event).into(),
                "One of these, at most 20; without it, any that is registered here.",
            ),
            asked("createdBy", string(Some(PRINTABLE), "registrar"), "Who submitted it. Everybody finds their own."),
            asked("trackingId", string(Some("^[A-Za-z0-9]{7}$"), "B2X3ACD"), "The tracking id."),
            asked("registrationNumber", number, "The registration number."),
            asked("q", words(), "A tracking id or a registration number."),
            asked(
                "waitingLongerThan",
                string(Some(DURATION), "P2D"),
                "Waiting for the country's verdict so long: seconds, or an ISO 8601 duration. Finds records in \
                 `waiting_validation` only, so no other status goes with it.",
            ),
        ]
    }
}

/// Which page of them is read.
pub(in crate::handlers) struct Pages;

impl IntoParams for Pages {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let order = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["asc", "desc"]));
        let order = order.default(Some(json!("desc"))).build();
        let limit = integer().minimum(Some(1)).maximum(Some(200)).default(Some(json!(50))).build();
        let cursor = ObjectBuilder::new().schema_type(Type::String).build();
        vec![
            asked("order", order, "By when they were accepted: the newest first, or for work queues the oldest."),
            asked("limit", limit, "Most records of the page."),
            asked("cursor", cursor, "Where to go on: that of an answer to the same query; only `limit` may differ."),
        ]
    }
}

fn words() -> utoipa::openapi::schema::Object {
    let words = ObjectBuilder::new().schema_type(Type::String).pattern(Some(WORDS)).min_length(Some(1));
    words.max_length(Some(200)).examples([json!("B2X3ACD")]).build()
}

fn asked(name: &str, schema: utoipa::openapi::schema::Object, description: &str) -> Parameter {
    parameter(name, ParameterIn::Query, schema, description)
}

/// A parameter that may be repeated.
fn several(name: &str, item: RefOr<Schema>, description: &str) -> Parameter {
    let mut parameter = parameter(name, ParameterIn::Query, ObjectBuilder::new().build(), description);
    parameter.schema = Some(ArrayBuilder::new().items(item).build().into());
    parameter.style = Some(ParameterStyle::Form);
    parameter.explode = Some(true);
    parameter
}
