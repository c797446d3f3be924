//! `bench`: each scenario that is run here at a tiny size prints what is to be read by machines.

use std::process::Command;

use serde_json::Value;

use crate::harness::BINARY;

/// The figures that a scenario prints.
fn figures(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(BINARY).arg("bench").args(arguments).args(["--rounds", "1", "--json"]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let figures: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for figure in &figures {
        assert!(figure["scenario"] == arguments[0] && figure["variant"].is_string() && figure["unit"].is_string());
        assert!(figure["value"].as_f64().unwrap() > 0.0, "{figure}");
    }
    assert!(!figures.is_empty());
    figures
}

/// A figure has all of these members, and none of them is 0.
fn assert_has(figure: &Value, members: &[&str]) {
    for member in members {
        assert!(figure[member].as_f64().is_some_and(|number| number > 0.0), "{member} of {figure}");
    }
}

const RATES: [&str; 6] = ["low", "high", "limit", "ratio", "wal_bytes_per_item", "cpu_us_per_item"];
const LATENCIES: [&str; 3] = ["p50_ms", "p95_ms", "p99_ms"];

#[test]
fn a_drain_is_measured_beside_plain_sql() {
    let figures = figures(&["drain", "--size", "500"]);
    assert_has(&figures[0], &RATES);
    assert!(figures[1]["variant"].as_str().unwrap().starts_with("limit: "));
    assert_eq!(figures[0]["limit"], figures[1]["value"]);
}

#[test]
fn submissions_are_measured_beside_the_same_rows_in_plain_sql() {
    let figures = figures(&["submit", "--size", "2", "--seconds", "1"]);
    assert_has(&figures[0], &RATES);
    assert_has(&figures[0], &LATENCIES);
}

#[test]
fn batches_are_measured_beside_the_same_rows_in_plain_sql() {
    assert_has(&figures(&["submit-batch", "--size", "1", "--seconds", "1"])[0], &RATES);
}

/// The two that fill tables with more than a drain does.
#[test]
fn burdens_are_measured_beside_the_drain_without_them() {
    for (scenario, size) in [("backlog", "400"), ("blocked", "100")] {
        assert_has(&figures(&[scenario, "--size", size])[0], &RATES);
    }
}

#[test]
fn deliveries_are_measured_from_the_queue_and_from_the_commit() {
    assert_has(&figures(&["drain-http", "--size", "100"])[0], &RATES);

    assert_has(&figures(&["pickup", "--rate", "20", "--seconds", "1"])[0], &LATENCIES);
}
