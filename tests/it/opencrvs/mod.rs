//! Country configs and clients of OpenCRVS, unmodified: what they send, byte by byte where it matters, and what makes them
//! do the right thing.

mod callbacks;
mod clients;
mod quirks;
mod trpc;
mod wire;
