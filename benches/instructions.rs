//! The functions whose cost `cargo xtask instructions` counts: the first argument names one, the second says how often it
//! is called.
//!
//! The count is the difference between one call more and one less, so whatever happens before and after, and what only
//! the first call makes, is in both and does not matter.

use std::env;
use std::hint::black_box;

use crvs_outbox::outbox::destination::Format;
use crvs_outbox::records::fhir::Declaration;
use crvs_outbox::samples;
use crvs_outbox::workers::payload;

use self::inputs::Failure;

mod inputs;

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let (name, times) = (args.next(), args.next().and_then(|times| times.parse().ok()).unwrap_or(1));
    match name.as_deref() {
        Some("rendering") => rendering(times),
        Some("stamping") => stamping(times),
        // `cargo bench` of everything comes by without a name.
        _ => rendering(times).and_then(|()| stamping(times)),
    }
}

/// A registered birth as a `CloudEvent`.
fn rendering(times: u32) -> Result<(), Failure> {
    let (message, source) = (inputs::message(), inputs::source(Some(inputs::stored()?)));
    for _ in 0..times {
        black_box(payload::render(Format::Cloudevents, &message, &source, None)?);
    }
    Ok(())
}

/// A birth as it was sent, to one that can be stored.
fn stamping(times: u32) -> Result<(), Failure> {
    let (stamp, urls) = (inputs::stamp("birth"), inputs::urls());
    for _ in 0..times {
        black_box(Declaration::parse(black_box(samples::BIRTH))?.stamped(&stamp, &urls)?);
    }
    Ok(())
}
