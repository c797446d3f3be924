//! Unmodified country configs and clients of OpenCRVS, as stand-ins that speak the same wire.

mod notifications;
mod triggers;
