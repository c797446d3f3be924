//! Why a cluster cannot be had. Every message says what to do where there is something to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a cluster did not start or did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The machine has no PostgreSQL server programs.
    #[error(
        "no PostgreSQL server was found: install one (`apt-get install -y postgresql`, \
         `brew install postgresql@17`) or set CRVS_PG_BIN to the folder of initdb and postgres"
    )]
    NoBinaries,

    /// The folder that was named explicitly does not hold the server programs.
    #[error("{}, given as the folder of PostgreSQL's programs, does not hold initdb and postgres", dir.display())]
    NotBinaries {
        /// The folder that was named.
        dir: PathBuf,
    },

    /// The data was made by a major version of PostgreSQL of which there are no programs.
    #[error(
        "{} was made by PostgreSQL {made_by}, but the programs found here are of PostgreSQL {found}: \
         install PostgreSQL {made_by}, or move the folder away to begin with an empty database",
        data.display()
    )]
    OtherVersion {
        /// The data folder.
        data: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: String,
        /// The major versions of the programs that were found.
        found: String,
    },

    /// Another instance has the folder.
    #[error("{} is in use by another instance{}", dir.display(), named(*holder))]
    InUse {
        /// The cluster's folder.
        dir: PathBuf,
        /// The process that has it, where it could be read.
        holder: Option<u32>,
    },

    /// A server of an owner that is gone still runs on the data and does not stop.
    #[error("a server (pid {pid}) of an earlier run still works on {}: stop it with `kill -INT {pid}`", data.display())]
    Orphan {
        /// One process of that server.
        pid: u32,
        /// The data folder.
        data: PathBuf,
    },

    /// A throwaway cluster deletes its folder, so it takes only one that holds nothing.
    #[error("{} is not empty: a throwaway cluster would delete what it holds", dir.display())]
    NotEmpty {
        /// The folder asked for.
        dir: PathBuf,
    },

    /// The disk (or the user's quota) is full.
    #[error("no space is left on the disk that holds {}: free some and start again", dir.display())]
    DiskFull {
        /// What was being written.
        dir: PathBuf,
    },

    /// Running as root, and there is no other user to run the server as.
    #[error("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as")]
    NoServerUser,

    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Initdb {
        /// What it said.
        output: String,
    },

    /// The server exited, or was not ready in time.
    #[error("the PostgreSQL server {what}; the end of {}:\n{tail}", log.display())]
    NotStarted {
        /// That it exited, or that it was not ready in time.
        what: String,
        /// The server's log.
        log: PathBuf,
        /// Its last lines, of this start only.
        tail: String,
    },

    /// The server did not stop in time.
    #[error("the PostgreSQL server (pid {pid}) has not stopped after {seconds} s")]
    NotStopped {
        /// The postmaster.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },

    /// A file or a program could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ClusterError {
    /// For `map_err`: names the path, and tells a full disk from all else.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let kind = source.kind();
            if kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded {
                Self::DiskFull { dir: path }
            } else {
                Self::Io { path, source }
            }
        }
    }
}

/// Whether a program's output blames the disk. The kernel's message for ENOSPC also stands for
/// "too few semaphores" and "too little shared memory", which no free disk space will cure.
pub(crate) fn blames_the_disk(output: &str) -> bool {
    output.lines().any(|line| {
        let full = line.contains("No space left on device") || line.contains("Disk quota exceeded");
        full && !line.contains("semaphore") && !line.contains("shared memory")
    })
}

fn named(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::blames_the_disk;

    #[test]
    fn a_full_disk_is_told_from_a_lack_of_semaphores_and_shared_memory() {
        assert!(blames_the_disk("x\nFATAL:  could not write to file \"pg_wal/xlogtemp.1\": No space left on device\n"));
        assert!(!blames_the_disk("FATAL:  could not create semaphores: No space left on device"));
        assert!(!blames_the_disk(
            "FATAL:  could not resize shared memory segment \"/P.1\" to 9 bytes: No space left on device"
        ));
        assert!(!blames_the_disk("LOG:  database system is ready to accept connections"));
    }
}
