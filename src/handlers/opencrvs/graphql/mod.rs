//! GraphQL, as OpenCRVS's clients speak it.

mod clients;
mod inputs;
mod refusal;
mod scalars;
