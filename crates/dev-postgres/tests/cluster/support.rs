//! Folders, queries and processes for the tests.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dev_postgres::Cluster;
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};

/// A new folder of which every user can see what is below; deleted at the end of the test.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new() -> Self {
        Self::with_mode(0o755)
    }

    pub(crate) fn with_mode(mode: u32) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dev-postgres-test-{}-{number}", std::process::id()));
        DirBuilder::new().mode(mode).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The answer to a query through the pasted command line, the way a person would get it.
pub(crate) fn ask(cluster: &Cluster, sql: &str) -> String {
    let line = format!("{} -XAtc \"$1\"", cluster.psql_command());
    let output = Command::new("sh").args(["-c", &line, "sh", sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Polls until the condition holds; fails the test after 30 s.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

pub(crate) fn send(signal: Signal, number: u32) {
    kill_process(pid(number), signal).unwrap();
}

/// Whether the process runs (one that is dead but not yet reaped does not).
pub(crate) fn is_running(number: u32) -> bool {
    let alive = test_kill_process(pid(number)) != Err(rustix::io::Errno::SRCH);
    alive && !proc_status(number, "State:").starts_with('Z')
}

/// A field of Linux's `/proc`; empty elsewhere, and for a process that is gone.
pub(crate) fn proc_status(number: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.unwrap_or_default().trim().to_owned()
}

/// Makes a command run as the user whose data this is, which differs from this one as root.
pub(crate) fn run_as_owner_of(data: &Path, command: &mut Command) {
    let owner = fs::metadata(data).unwrap();
    if geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
}

/// Another process that owns a cluster.
pub(crate) struct Owner {
    pub(crate) process: Child,
    pub(crate) server: u32,
    /// Kept open: it would end if it could not go on writing.
    _output: BufReader<ChildStdout>,
}

impl Owner {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_throwaway(dir: &Path) -> Self {
        Self::start_with(dir, &["throwaway"])
    }

    fn start_with(dir: &Path, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dev-postgres-try"))
            .arg(dir)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Self { process, server: line.trim().parse().unwrap(), _output: output }
    }

    /// Kills it with SIGKILL, so that it cannot clean up.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A folder of programs in which `initdb` is the shell script given and the rest is real.
pub(crate) fn fake_initdb(dir: &Path, script: &str) {
    let real = dev_postgres::bin_dirs().into_iter().next().unwrap();
    fs::create_dir(dir).unwrap();
    symlink(real.join("postgres"), dir.join("postgres")).unwrap();
    let initdb = dir.join("initdb");
    fs::write(&initdb, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&initdb, fs::Permissions::from_mode(0o755)).unwrap();
}
