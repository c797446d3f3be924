//! Placeholder.
use super::bed::Bed;
use super::{BenchError, Figure, Options};
pub(super) async fn run(_: &Options, _: &Bed, _: &mut (dyn FnMut(Figure) + Send)) -> Result<(), BenchError> {
    Ok(())
}
