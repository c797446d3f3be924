//! Counters and histograms, and their Prometheus text. Labels are words of the configuration, never of a request.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::outbox::complete::Outcome;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder of this process, once.
pub fn install() -> Result<(), BuildError> {
    if HANDLE.get().is_some() {
        return Ok(());
    }
    match PrometheusBuilder::new().install_recorder() {
        Ok(handle) => {
            HANDLE.get_or_init(|| handle);
            describe();
            Ok(())
        }
        // Another thread was first.
        Err(BuildError::FailedToSetGlobalRecorder(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn describe() {
    describe_counter!("crvs_outbox_submissions_total", "Requests with a transaction id, by outcome.");
    describe_counter!("crvs_outbox_deliveries_total", "Ended deliveries, by destination and outcome.");
    describe_histogram!("crvs_outbox_delivery_seconds", "Duration of exchanges, by destination.");
    describe_counter!("crvs_outbox_lease_lost_total", "Settlements refused because the lease was lost.");
    describe_counter!("crvs_outbox_rescued_total", "Leases taken back from dead or late workers.");
    describe_counter!("crvs_outbox_delivery_panics_total", "Deliveries that panicked.");
    describe_counter!("crvs_outbox_settlements_given_up_total", "Settlements that the database never took.");
    describe_counter!("crvs_outbox_maintenance_failures_total", "Failed turns of maintenance loops, by job.");
}

/// The metrics in Prometheus text format.
pub fn render() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// A request with a transaction id was answered.
pub fn submission(outcome: &'static str) {
    counter!("crvs_outbox_submissions_total", "outcome" => outcome).increment(1);
}

pub(crate) fn settled(destination: &str, outcome: &Outcome, duration: Option<Duration>) {
    let word = match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Retry(_) => "retry",
        Outcome::Dead => "dead",
        Outcome::Released(_) => "released",
    };
    counter!("crvs_outbox_deliveries_total", "destination" => destination.to_owned(), "outcome" => word).increment(1);
    if let Some(duration) = duration {
        histogram!("crvs_outbox_delivery_seconds", "destination" => destination.to_owned()).record(duration);
    }
}

pub(crate) fn lease_lost(destination: &str) {
    counter!("crvs_outbox_lease_lost_total", "destination" => destination.to_owned()).increment(1);
}

pub(crate) fn rescued(messages: usize) {
    counter!("crvs_outbox_rescued_total").increment(u64::try_from(messages).unwrap_or(u64::MAX));
}

pub(crate) fn delivery_panicked(destination: &str) {
    counter!("crvs_outbox_delivery_panics_total", "destination" => destination.to_owned()).increment(1);
}

pub(crate) fn settlement_given_up() {
    counter!("crvs_outbox_settlements_given_up_total").increment(1);
}

pub(crate) fn maintenance_failed(job: &'static str) {
    counter!("crvs_outbox_maintenance_failures_total", "job" => job).increment(1);
}
