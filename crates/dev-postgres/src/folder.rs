//! The cluster's folder: where it is, who has it, and what is in it.
//!
//! ```text
//! <dir>/lock         held by the owner for its life; holds its pid
//! <dir>/data         the cluster; data.new while initdb is at work
//! <dir>/run          the socket, mode 0700
//! <dir>/server.log
//! ```

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::address::PORT;
use crate::error::ClusterError;
use crate::user::ServerUser;

/// Where clusters go when root asks for a folder that the server's user cannot reach.
const SHARED_PARENT: &str = "/var/lib/crvs-outbox";

/// The system's limit for the path of a Unix socket, without the final NUL.
const SOCKET_PATH_LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A folder that this process owns while the value lives.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    note: Option<String>,
    /// Unlocked by the system when this is dropped, or when the process ends in whatever way.
    _lock: File,
}

impl Folder {
    /// Settles where the folder is, makes it, and locks it.
    pub(crate) fn take(asked: &Path, user: ServerUser, must_be_empty: bool) -> Result<Self, ClusterError> {
        let (dir, note) = settle(real_path(asked)?, user)?;
        if must_be_empty && !is_empty(&dir) {
            return Err(ClusterError::NotEmpty { dir });
        }
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(ClusterError::at(parent))?;
        }
        // A folder that was there before stays its owner's: it may hold more than the cluster.
        if !dir.exists() {
            make_private(&dir, user)?;
        }
        let lock = lock(&dir)?;
        Ok(Self { dir, note, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Makes the socket's folder: `run`, or where its path would be too long, a new one in a
    /// folder for temporary files, which is to be deleted afterwards.
    pub(crate) fn socket_dir(&self, user: ServerUser) -> Result<SocketDir, ClusterError> {
        let inside = self.dir.join("run");
        if fits_a_socket(&inside) {
            if !inside.exists() {
                make_private(&inside, user)?;
            }
            return Ok(SocketDir { path: inside, temporary: false });
        }
        temporary_socket_dir(user)
    }
}

/// The folder of the socket.
#[derive(Debug)]
pub(crate) struct SocketDir {
    pub(crate) path: PathBuf,
    /// Whether it lies outside the cluster's folder.
    pub(crate) temporary: bool,
}

/// Makes one folder of mode 0700 that belongs to the server's user. It must not exist.
pub(crate) fn make_private(path: &Path, user: ServerUser) -> Result<(), ClusterError> {
    DirBuilder::new().mode(0o700).create(path).map_err(ClusterError::at(path))?;
    user.own(path)
}

/// The absolute path with the links of its existing part resolved. Processes are recognised by
/// their working folder, which the system reports in this form.
fn real_path(asked: &Path) -> Result<PathBuf, ClusterError> {
    let absolute = std::path::absolute(asked).map_err(ClusterError::at(asked))?;
    let resolved = absolute.ancestors().find_map(|ancestor| {
        let real = fs::canonicalize(ancestor).ok()?;
        Some((real, absolute.strip_prefix(ancestor).ok()?))
    });
    Ok(match resolved {
        Some((real, rest)) if rest.as_os_str().is_empty() => real,
        Some((real, rest)) => real.join(rest),
        None => absolute,
    })
}

/// The folder itself, or one that the server's user can reach, with a note about the change.
fn settle(dir: PathBuf, user: ServerUser) -> Result<(PathBuf, Option<String>), ClusterError> {
    if user.can_reach(&dir) {
        return Ok((dir, None));
    }
    let parent = Path::new(SHARED_PARENT);
    fs::create_dir_all(parent).map_err(ClusterError::at(parent))?;
    let passable = Permissions::from_mode(0o755); // whatever the umask is
    fs::set_permissions(parent, passable).map_err(ClusterError::at(parent))?;
    let instead = parent.join(flattened(&dir));
    let note = format!(
        "the server does not run as root, and its user cannot reach {}: the data is in {}",
        dir.display(),
        instead.display()
    );
    Ok((instead, Some(note)))
}

fn flattened(dir: &Path) -> String {
    let text = dir.to_string_lossy();
    text.trim_start_matches('/').replace('-', "--").replace('/', "-")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none()) && !dir.is_file()
}

fn lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join("lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(ClusterError::at(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(ClusterError::at(&path)(source)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(ClusterError::InUse { dir: dir.to_owned(), holder });
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(ClusterError::at(&path))?;
    Ok(file)
}

fn fits_a_socket(dir: &Path) -> bool {
    dir.as_os_str().len() + "/.s.PGSQL.".len() + PORT.len() <= SOCKET_PATH_LIMIT
}

/// The name can be guessed, so the folder has to be new: others may write where it lies.
fn temporary_socket_dir(user: ServerUser) -> Result<SocketDir, ClusterError> {
    let own = env::temp_dir();
    let longest_name = own.join(format!("crvs-postgres-{}-999", u32::MAX));
    let usable = user.can_reach(&own) && fits_a_socket(&longest_name);
    let parent = if usable { own } else { PathBuf::from("/tmp") };
    let mut number = 0;
    loop {
        let path = parent.join(format!("crvs-postgres-{}-{number}", std::process::id()));
        match make_private(&path, user) {
            Ok(()) => {
                return Ok(SocketDir { path, temporary: true });
            }
            Err(ClusterError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists && number < 999 => {
                number += 1;
            }
            Err(other) => return Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fits_a_socket, flattened};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_flattened_path_tells_its_separators_from_its_dashes() {
        assert_eq!(flattened(Path::new("/root/x/pg")), "root-x-pg");
        assert_ne!(flattened(Path::new("/a-b/c")), flattened(Path::new("/a/b-c")));
    }

    #[test]
    fn the_longest_folder_that_fits_leaves_room_for_the_socket_name() {
        let folder = |len: usize| PathBuf::from(format!("/{}", "a".repeat(len - 1)));
        let longest = super::SOCKET_PATH_LIMIT - "/.s.PGSQL.5432".len();
        assert!(fits_a_socket(&folder(longest)));
        assert!(!fits_a_socket(&folder(longest + 1)));
    }
}
