//! The one timer of the maintenance loops: jitter, log, metric. The loops themselves are their `run_once`.

use std::fmt::Debug;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Calls `run_once` now and then every `every`, give or take a tenth so that instances do not march in step, until
/// stopped. A failure is logged and counted, and the next turn comes: maintenance never ends the process.
pub(crate) async fn run<T, E, F>(
    name: &'static str,
    every: Duration,
    stop: CancellationToken,
    mut run_once: impl FnMut() -> F,
) where
    F: Future<Output = Result<T, E>>,
    T: Debug + Default + PartialEq,
    E: std::error::Error + 'static,
{
    loop {
        match run_once().await {
            Ok(done) if done == T::default() => {}
            Ok(done) => tracing::info!(job = name, ?done, "maintenance"),
            Err(error) => {
                metrics::maintenance_failed(name);
                tracing::warn!(job = name, error = &error as &dyn std::error::Error, "maintenance failed");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(every)) => {}
        }
    }
}

/// `every` give or take a tenth.
pub(crate) fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
