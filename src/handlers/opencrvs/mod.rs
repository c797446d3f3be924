//! The wire of OpenCRVS, for its clients and country configs as they are.

mod graphql;
