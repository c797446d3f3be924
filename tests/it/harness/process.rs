//! A process of the service, that is told to stop, or killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it and waits until it says that it has started.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let process = Self { child, log };
        process.has_logged("started").await;
        process
    }

    /// Waits until it has logged this message.
    pub(crate) async fn has_logged(&self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap().clone();
            let entries = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(entry) = entries.into_iter().find(|e| e["fields"]["message"] == message) {
                return entry;
            }
            assert!(Instant::now() < deadline, "{message}: {log:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where its API is.
    pub(crate) fn public(&self) -> SocketAddr {
        let log = self.log.lock().unwrap().clone();
        let entries = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = entries.into_iter().find(|e| e["fields"]["message"] == "started").unwrap();
        let text = started["fields"]["public_addr"].as_str().unwrap();
        text.trim_start_matches("Some(").trim_end_matches(')').parse().unwrap()
    }

    /// Where its metrics are.
    pub(crate) fn internal(&self) -> SocketAddr {
        let log = self.log.lock().unwrap().clone();
        let entries = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = entries.into_iter().find(|e| e["fields"]["message"] == "started").unwrap();
        started["fields"]["internal_addr"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGKILL, and gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; waits for its end.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop: {:#?}", self.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, in the usual case.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
