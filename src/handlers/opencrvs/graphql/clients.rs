//! What clients ask and do.

use async_graphql::Object;

/// What clients ask.
#[derive(Debug, Default)]
pub(super) struct ClientQuery;

/// What clients ask.
#[Object]
impl ClientQuery {
    /// The version of this service.
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
