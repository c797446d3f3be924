//! Counters and histograms, and their Prometheus text. Labels are words of the configuration, never of a request.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
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
    describe_histogram!(
        "crvs_outbox_submissions_together",
        "Submissions that came at the same time and share a commit."
    );
    describe_counter!("crvs_outbox_lists_spoilt_total", "Shared commits that failed, after which each went by itself.");
    describe_histogram!("crvs_outbox_delivery_seconds", "Duration of exchanges, by destination.");
    describe_counter!("crvs_outbox_lease_lost_total", "Settlements refused because the lease was lost.");
    describe_counter!("crvs_outbox_rescued_total", "Leases taken back from dead or late workers.");
    describe_counter!("crvs_outbox_delivery_panics_total", "Deliveries that panicked.");
    describe_counter!("crvs_outbox_settlements_given_up_total", "Settlements that the database never took.");
    describe_gauge!("crvs_outbox_ready", "Ready messages, by destination; counted up to the limit of back-pressure.");
    describe_gauge!("crvs_outbox_oldest_due_seconds", "Age of the oldest due message, by destination.");
    describe_gauge!("crvs_outbox_flows", "1 while a destination is neither paused nor its circuit open.");
    describe_counter!("crvs_outbox_refused_total", "Requests refused or given up at the edge, by reason.");
    describe_gauge!("crvs_outbox_pressure", "1 while submissions are refused because too much is waiting.");
    describe_gauge!("crvs_outbox_waiting", "Requests and streams that wait to hear what became of transactions.");
    describe_gauge!(
        "crvs_outbox_validation_overdue",
        "Registrations that the country promised to decide and did not in time, asked for again or not."
    );
    describe_counter!("crvs_outbox_circuit_total", "Changes of circuits, by destination and to what.");
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

/// So many submissions share a commit.
pub(crate) fn submitted_together(many: usize) {
    histogram!("crvs_outbox_submissions_together").record(f64::from(u32::try_from(many).unwrap_or(u32::MAX)));
}

pub(crate) fn list_spoilt() {
    counter!("crvs_outbox_lists_spoilt_total").increment(1);
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

/// Counts stay exact as floats up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn backlog(destination: &str, ready: u64, oldest_due: Option<Duration>, flows: bool) {
    let label = || destination.to_owned();
    gauge!("crvs_outbox_ready", "destination" => label()).set(ready as f64);
    let age = oldest_due.unwrap_or_default().as_secs_f64();
    gauge!("crvs_outbox_oldest_due_seconds", "destination" => label()).set(age);
    gauge!("crvs_outbox_flows", "destination" => label()).set(f64::from(u8::from(flows)));
}

/// So many registrations wait longer than the country promised.
#[expect(clippy::cast_precision_loss, reason = "at most 10,000")]
pub(crate) fn validation_overdue(count: i64) {
    gauge!("crvs_outbox_validation_overdue").set(count as f64);
}

/// A request was refused or given up before a handler answered.
pub(crate) fn refused(reason: &'static str) {
    counter!("crvs_outbox_refused_total", "reason" => reason).increment(1);
}

pub(crate) fn pressure(on: bool) {
    gauge!("crvs_outbox_pressure").set(f64::from(u8::from(on)));
}

/// How many wait to be told.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn waiting(count: usize) {
    gauge!("crvs_outbox_waiting").set(count as f64);
}

pub(crate) fn circuit(destination: &str, to: &'static str) {
    counter!("crvs_outbox_circuit_total", "destination" => destination.to_owned(), "to" => to).increment(1);
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
