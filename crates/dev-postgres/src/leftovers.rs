//! What an earlier run that ended badly may have left: server processes and pid files.
//!
//! The caller holds the folder's lock, so no other instance owns the folder. PostgreSQL judges a
//! left pid file by whether its number is in use, and refuses to start when another process got
//! that number. Here the processes themselves are looked at, where the system shows them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::PORT;
use crate::error::ClusterError;
use crate::poll;
use crate::processes::{Servers, servers_on};
use crate::user::ServerUser;

/// How long the server of an owner that is gone may take to stop.
const ORPHAN_LIMIT: Duration = Duration::from_secs(5);

/// Waits for a server that is just stopping, then removes pid files that are stale for sure.
/// Where that cannot be known they are left for PostgreSQL to judge.
pub(crate) fn clear(data: &Path, socket_dir: &Path, user: ServerUser) -> Result<(), ClusterError> {
    let mut last = Servers::None;
    poll::until(ORPHAN_LIMIT, || {
        let recorded = fs::read_to_string(pid_file(data)).ok();
        last = servers_on(data, user, recorded.as_deref().and_then(pid_in));
        (!matches!(last, Servers::Running(_))).then_some(())
    });
    match last {
        Servers::Running(pid) => {
            let data = data.to_owned();
            Err(ClusterError::Orphan { pid, data })
        }
        Servers::Unknown => Ok(()),
        Servers::None => {
            remove(&pid_file(data))?;
            remove(&socket_dir.join(format!(".s.PGSQL.{PORT}.lock")))
        }
    }
}

/// The file in which the server keeps its pid (line 1) and its state (line 8).
pub(crate) fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// The pid on the first line of a pid file.
pub(crate) fn pid_in(text: &str) -> Option<u32> {
    text.lines().next()?.trim().parse().ok()
}

fn remove(file: &Path) -> Result<(), ClusterError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ClusterError::at(file)(error)),
        _ => Ok(()),
    }
}
