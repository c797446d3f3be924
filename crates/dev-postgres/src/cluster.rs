//! Starting and stopping a cluster.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::address::{Address, PORT};
use crate::error::{ClusterError, blames_the_disk};
use crate::folder::{Folder, SocketDir};
use crate::guard::{Guard, Plan, STOP_LIMIT};
use crate::user::ServerUser;
use crate::{binaries, initdb, leftovers, poll};

/// Crash recovery is included in this.
const START_LIMIT: Duration = Duration::from_mins(2);
const TAIL_LINES: usize = 8;

/// How a cluster is to be run. The default: kept, with PostgreSQL's own settings.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Server settings by name, such as `("max_connections", "300")`. Where the server listens
    /// cannot be changed.
    pub settings: Vec<(String, String)>,
    /// Delete the folder after the stop, which is then an immediate one. The folder must be
    /// absent or empty at the start, so that nothing else is ever deleted.
    pub throwaway: bool,
    /// The folder of `initdb` and `postgres`; `None` searches for it, see [`crate::bin_dirs`].
    pub bin_dir: Option<PathBuf>,
}

/// A running private server. It stops when this is dropped, or when the process ends in
/// whatever way.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: the server stops first, then the folder is unlocked.
    guard: Guard,
    folder: Folder,
    address: Address,
    bin_dir: PathBuf,
    pid: u32,
}

impl Cluster {
    /// Starts the cluster in `dir`, made at the first start. Returns when it accepts
    /// connections.
    pub fn start(dir: &Path) -> Result<Self, ClusterError> {
        Self::start_with(dir, &Options::default())
    }

    /// [`Cluster::start`] with options.
    pub fn start_with(dir: &Path, options: &Options) -> Result<Self, ClusterError> {
        let user = ServerUser::find()?;
        let folder = Folder::take(dir, user, options.throwaway)?;
        let path = folder.path().to_owned();
        let result = launch(folder, user, options);
        if result.is_err() && options.throwaway {
            drop(fs::remove_dir_all(path)); // the error of the start says more
        }
        result
    }

    /// The URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// The URL of a database of this server. Does not create it.
    pub fn url_for(&self, database: &str) -> String {
        self.address.url(database)
    }

    /// A command line for a person to paste, which opens the database `postgres`.
    pub fn psql_command(&self) -> String {
        self.psql_command_for("postgres")
    }

    /// [`Cluster::psql_command`] for another database.
    pub fn psql_command_for(&self, database: &str) -> String {
        self.address.psql_command(database)
    }

    /// The folder of the cluster. It is not the one asked for when [`Cluster::note`] says so.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// What the user should be told about where the data is, if anything.
    pub fn note(&self) -> Option<&str> {
        self.folder.note()
    }

    /// The folder of the server's programs, where its `psql` is, too.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The server's first process, the postmaster.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the server still runs. It may have crashed, or somebody may have stopped it.
    pub fn is_running(&self) -> bool {
        self.guard.is_running()
    }

    /// Stops the server, disconnecting its clients, and waits until it is gone. Dropping does
    /// the same without telling whether it worked.
    pub fn stop(mut self) -> Result<(), ClusterError> {
        if self.guard.stop() {
            Ok(())
        } else {
            Err(ClusterError::NotStopped { pid: self.pid, seconds: STOP_LIMIT.as_secs() })
        }
    }
}

fn launch(folder: Folder, user: ServerUser, options: &Options) -> Result<Cluster, ClusterError> {
    let data = folder.data();
    let made_by = initdb::made_by(&data)?;
    let bin_dir = binaries::choose(options.bin_dir.as_deref(), &data, made_by.as_deref())?;
    if made_by.is_none() {
        initdb::make(&folder, &bin_dir, user, options.throwaway)?;
    }
    let socket = folder.socket_dir(user)?;
    leftovers::clear(&data, &socket.path, user)?;

    // Still there only where the leftovers could not be judged: not to be taken for an answer.
    let left = fs::read_to_string(leftovers::pid_file(&data)).unwrap_or_default();
    let log = Log::open(&folder.log())?;
    let guard = Guard::spawn(Plan {
        user,
        server: &server_command(&bin_dir, &data, &socket, options),
        log: log.file,
        socket_folder: socket.temporary.then_some(socket.path.as_path()),
        throwaway_folder: options.throwaway.then_some(folder.path()),
    })?;
    let pid =
        wait_until_ready(&guard, &data, &left).map_err(|what| not_started(what, &data, folder.log(), log.start))?;
    let address = Address::new(socket.path);
    Ok(Cluster { guard, folder, address, bin_dir, pid })
}

/// `-c` on the command line outranks the files in the data folder, and of two the last counts.
fn server_command(bin: &Path, data: &Path, socket: &SocketDir, options: &Options) -> Command {
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(data);
    for (name, value) in &options.settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]);
    command.args(["-c", "logging_collector=off", "-c", "log_destination=stderr"]);
    command.arg("-p").arg(PORT).arg("-k").arg(&socket.path);
    command
}

/// The postmaster's pid when it accepts connections, or what happened instead.
fn wait_until_ready(guard: &Guard, data: &Path, left: &str) -> Result<u32, String> {
    let pid_file = leftovers::pid_file(data);
    let ready = || {
        let text = fs::read_to_string(&pid_file).ok().filter(|text| text != left)?;
        let state = text.lines().nth(7)?;
        (state.trim() == "ready").then_some(leftovers::pid_in(&text)?)
    };
    let answer = poll::until(START_LIMIT, || match ready() {
        Some(pid) => Some(Ok(pid)),
        None if guard.is_running() => None,
        None => Some(Err("exited before it was ready".to_owned())),
    });
    answer.unwrap_or_else(|| Err(format!("was not ready after {} s", START_LIMIT.as_secs())))
}

fn not_started(what: String, data: &Path, log: PathBuf, start: u64) -> ClusterError {
    let text = Log::read_from(&log, start);
    if blames_the_disk(&text) {
        return ClusterError::DiskFull { dir: data.to_owned() };
    }
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    ClusterError::NotStarted { what, log, tail }
}

/// The server's log, which is appended to at every start.
struct Log {
    file: File,
    /// Where this start's part begins.
    start: u64,
}

impl Log {
    fn open(path: &Path) -> Result<Self, ClusterError> {
        let open = OpenOptions::new().create(true).append(true).open(path);
        let file = open.map_err(ClusterError::at(path))?;
        let start = file.metadata().map_err(ClusterError::at(path))?.len();
        Ok(Self { file, start })
    }

    fn read_from(path: &Path, start: u64) -> String {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(not readable: {error})"),
        }
    }
}
