//! The user the server runs as: the one who asks, unless that is root.
//!
//! PostgreSQL refuses to run as root, which is who one is in most containers.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::ClusterError;

/// Who runs the server's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerUser {
    /// The user of this process.
    Own,
    /// This process is root, and the server runs as this user instead.
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    /// `postgres`, else `nobody`, when this process is root.
    pub(crate) fn find() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let other = ["postgres", "nobody"].into_iter().find_map(|name| {
            let uid = ask_id("-u", name)?;
            let gid = ask_id("-g", name)?;
            Some(Self::Other { uid, gid })
        });
        other.ok_or(ClusterError::NoServerUser)
    }

    /// A command that runs as this user, away from the terminal and from a caller's settings.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null());
        // Its messages are searched for one of the kernel's, so they have to be in English.
        command.env("LC_ALL", "C").env_remove("LANGUAGE").env_remove("PGDATA");
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid); // as root this drops the supplementary groups, too
        }
        command
    }

    /// Gives a folder to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid)).map_err(ClusterError::at(path)),
        }
    }

    /// Whether this user may pass through every folder of the path that exists already.
    pub(crate) fn can_reach(self, path: &Path) -> bool {
        let Self::Other { uid, gid } = self else {
            return true; // where it may not, the attempt itself says so best
        };
        path.ancestors().filter_map(|folder| fs::metadata(folder).ok()).all(|folder| {
            let search = if folder.uid() == uid {
                0o100
            } else if folder.gid() == gid {
                0o010
            } else {
                0o001
            };
            folder.mode() & search != 0
        })
    }
}

/// `id` knows every source of users that the system has, unlike `/etc/passwd`.
fn ask_id(what: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([what, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
