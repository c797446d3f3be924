//! What the library promises, against the real PostgreSQL that is installed.
//!
//! Every test uses a folder of its own, so they may run at the same time, as root or not.

#[cfg(test)]
mod leftovers;
#[cfg(test)]
mod owner;
#[cfg(test)]
mod places;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod start;
#[cfg(test)]
mod support;
