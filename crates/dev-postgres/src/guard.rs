//! The server as the child of a small shell script that ties its life to its owner's.
//!
//! The tie is a pipe that the owner holds: the system closes it however the owner ends, SIGKILL
//! included. A signal on the parent's death would be shorter, but Linux sends it when the
//! *thread* that started the server ends, and needs `unsafe` to be asked for.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::error::ClusterError;
use crate::poll;
use crate::user::ServerUser;

const SCRIPT: &str = include_str!("guard.sh");
const SHELL: &str = "/bin/sh";

/// Longer than the script's 15 s for a fast stop and the server's own 5 s for an immediate one.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What the guard is to run, and what it deletes afterwards.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) user: ServerUser,
    /// The server's program and arguments.
    pub(crate) server: &'a Command,
    pub(crate) log: File,
    /// A socket folder outside the cluster's own.
    pub(crate) socket_folder: Option<&'a Path>,
    /// The cluster's folder, when it is thrown away: this also makes the stop an immediate one.
    pub(crate) throwaway_folder: Option<&'a Path>,
}

/// A running guard. Dropping it stops the server.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    delete: Vec<PathBuf>,
}

impl Guard {
    pub(crate) fn spawn(plan: Plan<'_>) -> Result<Self, ClusterError> {
        let shell = Path::new(SHELL);
        let mut command = plan.user.command(shell);
        // A group of its own: Ctrl-C at the terminal is for the owner, who then stops in order.
        command.process_group(0).stdin(Stdio::piped());
        command.stdout(plan.log.try_clone().map_err(ClusterError::at(shell))?).stderr(plan.log);
        command.args(["-c", SCRIPT, "dev-postgres-guard"]);
        command.arg(if plan.throwaway_folder.is_some() { "QUIT" } else { "INT" });
        command.arg(plan.socket_folder.unwrap_or(Path::new("")));
        command.arg(plan.throwaway_folder.unwrap_or(Path::new("")));
        command.arg(plan.server.get_program()).args(plan.server.get_args());
        let delete = [plan.socket_folder, plan.throwaway_folder];
        Ok(Self {
            shell: command.spawn().map_err(ClusterError::at(shell))?,
            delete: delete.into_iter().flatten().map(Path::to_owned).collect(),
        })
    }

    /// Whether the server still runs: the guard ends as soon as the server does.
    pub(crate) fn is_running(&self) -> bool {
        let Some(pid) = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw) else {
            return false;
        };
        // Only looks (NOWAIT): the exit status stays there for `stop`.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(pid), look), Ok(None))
    }

    /// Stops the server and deletes what was to be deleted. `false` when it still runs after
    /// [`STOP_LIMIT`]. Harmless to repeat.
    pub(crate) fn stop(&mut self) -> bool {
        drop(self.shell.stdin.take());
        let ended = poll::until(STOP_LIMIT, || match self.shell.try_wait() {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(()),
        });
        if ended.is_none() {
            return false;
        }
        for folder in self.delete.drain(..) {
            // The guard did this already, but as another user it cannot remove the last folder.
            drop(std::fs::remove_dir_all(folder));
        }
        true
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody is there to hear of a failure; the guard goes on stopping the server.
        self.stop();
    }
}
