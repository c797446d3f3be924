//! What a newcomer sees first.

use std::process::Command;

use serde_json::Value;

use crate::harness::BINARY;

#[test]
fn the_demo_registers_its_records_and_has_every_effect_once_though_receivers_fail() {
    let dir = std::env::temp_dir().join(format!("crvs-outbox-demo-{}", std::process::id()));
    let mut demo = Command::new(BINARY);
    demo.args(["demo", "--exit", "--json", "--records", "6", "--fail-rate", "0.3", "--listen", "127.0.0.1:0"]);
    let done = demo.args(["--internal-addr", "127.0.0.1:0", "--dir"]).arg(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap();
    let records = summary["records"].as_array().unwrap();
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record["registrationNumber"].is_string()), "{summary}");
    std::fs::remove_dir_all(dir).unwrap();
}
