//! Unmodified country configs and clients of OpenCRVS, as stand-ins that speak the same wire: what they send, byte by byte
//! where it matters, and what makes them do the right thing.

mod callbacks;
mod clients;
mod outcomes;
mod quirks;
mod triggers;
mod trpc;
mod whole;
mod wire;
