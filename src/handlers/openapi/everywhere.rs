//! What [`super::super::edge`] takes and adds, whatever the operation.

use utoipa::openapi::Header;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::shapes::{always, parameter, sometimes, string};

/// The header by which a request is known.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// The same, as a parameter.
pub(super) fn request_id() -> Parameter {
    let schema = string(None, "4bf92f3577b34da6a3ce929d0e0e4736");
    let description =
        "The client's id of the request: 16 to 64 hexadecimal digits and hyphens. Anything else is replaced.";
    parameter(REQUEST_ID, ParameterIn::Header, schema, description)
}

/// Headers of all answers.
pub(super) const EVERYWHERE: [&str; 4] = [REQUEST_ID, "traceresponse", "RateLimit-Policy", "RateLimit"];

/// What these headers are.
pub(super) fn headers() -> impl Iterator<Item = (&'static str, Header)> {
    let header = |pattern: &str, example: &str, description: &str| {
        HeaderBuilder::new().schema(Some(string(Some(pattern), example))).description(Some(description))
    };
    let id = header(
        "^[0-9A-Fa-f-]{16,64}$",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "The request's id, which the logs have too.",
    );
    let trace = header(
        "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "The trace of the request and of what is sent because of it: the client's, or a new one.",
    );
    let policy = header(
        r#"^"principal";q=[0-9]+;w=[0-9]+$"#,
        r#""principal";q=1000;w=10"#,
        "There for who sends a token: how many requests a principal may make in how many seconds.",
    );
    let rate = header(
        r#"^"principal";r=[0-9]+;t=[0-9]+$"#,
        r#""principal";r=999;t=1"#,
        "There for who sends a token: how many are left, and in how many seconds there is one more.",
    );
    let (id, trace, policy, rate) = (always(id), always(trace), sometimes(policy), sometimes(rate));
    EVERYWHERE.into_iter().zip([id, trace, policy, rate])
}
