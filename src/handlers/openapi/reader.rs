//! `/docs`: a reader of the description, from this program alone. Nothing is fetched from elsewhere, and the page's content
//! security policy would not let it.
//!
//! It is Swagger UI (Apache-2.0, `SmartBear` Software), as the crate `utoipa-swagger-ui` brings it, compressed.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa_swagger_ui::Config;

use super::super::problem::{Kind, Problem};
use super::problems::{FileProblems, OpenProblems};
use super::tags;

/// Swagger UI styles its elements in place; its scripts are files.
const POLICY: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const NO_SNIFFING: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
const FIVE_MINUTES: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");

/// Those of Swagger UI's files that the page needs.
const FILES: [&str; 3] = ["favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"];

/// The file in the path.
pub(in crate::handlers) struct FilePath;

impl utoipa::IntoParams for FilePath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let files = FILES.into_iter().chain(["start.js"]);
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(files));
        let file = ParameterBuilder::new().name("file").parameter_in(ParameterIn::Path).required(Required::True);
        vec![file.schema(Some(schema)).description(Some("Its name.")).build()]
    }
}

/// A reader of this description
///
/// A page for people, which works without the internet.
#[utoipa::path(
    get, path = "/docs", operation_id = "openReader", tag = tags::SERVICE,
    responses((status = 200, description = "The page", body = String, content_type = "text/html"), OpenProblems),
)]
pub(in crate::handlers) async fn page() -> impl IntoResponse {
    let html = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([html, POLICY, NO_SNIFFING, FIVE_MINUTES], include_str!("reader/index.html"))
}

/// A file of the reader
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "readReaderFile", tag = tags::SERVICE,
    params(FilePath),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/png"),
        )),
        FileProblems,
    ),
)]
pub(in crate::handlers) async fn file(path: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let name = path.map_or_else(|_| String::new(), |Path(name)| name);
    let common = [POLICY, NO_SNIFFING, FIVE_MINUTES];
    if name == "start.js" {
        let script = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
        return Ok((common, [script], include_str!("reader/start.js")).into_response());
    }
    let not_found = || Problem::new(Kind::NotFound);
    if !FILES.contains(&name.as_str()) {
        return Err(not_found());
    }
    let config = Arc::new(Config::new(["openapi.json"]));
    let file = utoipa_swagger_ui::serve(&name, config).ok().flatten().ok_or_else(not_found)?;
    let mut response = (common, file.bytes.into_owned()).into_response();
    let content_type = HeaderValue::from_str(&file.content_type).map_err(|_invalid| Problem::new(Kind::Internal))?;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    if file.gzpipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
