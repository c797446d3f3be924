//! Unmodified country configs and clients of OpenCRVS work against it.

mod notifications;
