//! Unmodified country configs and clients of OpenCRVS, as stand-ins that speak the same wire.

mod callbacks;
mod clients;
mod outcomes;
mod triggers;
mod whole;
