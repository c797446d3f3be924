//! What every request passes, whatever its route.

mod connections;
mod encodings;
mod exchange;
mod rates;
