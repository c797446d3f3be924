//! Errors in the words of the protocols that `OpenCRVS`'s peers speak (`super::super::opencrvs`).

#![expect(dead_code, reason = "these types describe, others write")]

use utoipa::ToSchema;

/// Errors of GraphQL.
#[derive(ToSchema)]
pub(super) struct GraphQlErrors {
    #[schema(min_items = 1)]
    errors: Vec<GraphQlError>,
}

/// What went wrong with a request or with one of its fields.
#[derive(ToSchema)]
pub(super) struct GraphQlError {
    /// In words, without any value of the request.
    message: String,
    extensions: GraphQlCode,
}

/// What kind of error it is.
#[derive(ToSchema)]
pub(super) struct GraphQlCode {
    /// That of Apollo's server, or the kind of a problem in capitals.
    #[schema(pattern = "^[A-Z_]+$")]
    code: String,
}

/// An error of tRPC, or those of a batch.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum TrpcErrors {
    One(TrpcError),
    Batch(Vec<TrpcError>),
}

/// What went wrong with a call.
#[derive(ToSchema)]
pub(super) struct TrpcError {
    error: TrpcEnvelope,
}

/// As superjson has it.
#[derive(ToSchema)]
pub(super) struct TrpcEnvelope {
    json: TrpcErrorBody,
}

/// What went wrong.
#[derive(ToSchema)]
pub(super) struct TrpcErrorBody {
    /// In words, without any value of the request.
    message: String,
    /// The number that tRPC has for it.
    #[schema(maximum = -32000)]
    code: i32,
    data: TrpcErrorData,
}

/// What clients look at.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrpcErrorData {
    /// The name that tRPC has for it.
    #[schema(pattern = "^[A-Z_]+$")]
    code: String,
    /// The status that it has by itself.
    #[schema(minimum = 400, maximum = 599)]
    http_status: i32,
    /// The procedure.
    path: String,
}
