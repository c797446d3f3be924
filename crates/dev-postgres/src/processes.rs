//! Which server works on a data folder, as far as the system shows its processes.
//!
//! Every process of a server has the data folder as its working folder, also those that outlive
//! the first one. Only Linux shows that, in `/proc`.

use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::user::ServerUser;

/// What is known of servers on a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    None,
    Running(u32),
    /// The system does not show enough to be sure that there are none.
    Unknown,
}

/// What is known of one process.
enum Place {
    Folder(PathBuf),
    Gone,
    Hidden,
}

/// Looks through all processes. `recorded`, the pid in a left pid file, tells whether processes
/// are kept from view altogether: it is in use, and yet not among those that are shown.
pub(crate) fn servers_on(data: &Path, user: ServerUser, recorded: Option<u32>) -> Servers {
    let (Ok(processes), Ok(data_of)) = (fs::read_dir("/proc"), fs::metadata(data)) else {
        return Servers::Unknown;
    };
    let mut shown = Vec::new();
    let mut sure = true;
    for process in processes.flatten().map(|entry| entry.path()) {
        let name = process.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        shown.push(pid);
        if !may_be_server(&process, data_of.uid()) {
            continue;
        }
        match working_folder(&process, user) {
            Place::Folder(folder) if folder == data => return Servers::Running(pid),
            Place::Folder(_) | Place::Gone => {}
            Place::Hidden => sure = false,
        }
    }
    let all_shown = recorded.is_none_or(|pid| shown.contains(&pid) || !is_alive(pid));
    if sure && all_shown && !shown.is_empty() { Servers::None } else { Servers::Unknown }
}

/// By name and user: a server works only on data of its own user. Without the second check the
/// servers of others, whose folders are not shown, would leave every answer open.
fn may_be_server(process: &Path, uid: u32) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.unwrap_or_default()
    };
    let name = field("Name:");
    let server = name.starts_with("postgres") || name.starts_with("postmaster");
    // A process that is dead but not yet reaped works on nothing.
    server && field("Uid:").parse() == Ok(uid) && !["Z", "X"].contains(&field("State:"))
}

/// In most containers even root is not shown the folder of another user's process; that user is.
fn working_folder(process: &Path, user: ServerUser) -> Place {
    let link = process.join("cwd");
    match fs::read_link(&link) {
        Ok(folder) => return Place::Folder(folder),
        Err(error) if error.kind() == PermissionDenied && user != ServerUser::Own => {}
        Err(error) if error.kind() == PermissionDenied => return Place::Hidden,
        Err(_) => return Place::Gone,
    }
    let mut readlink = user.command(Path::new("readlink"));
    let output = readlink.arg("-n").arg(&link).stderr(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            use std::os::unix::ffi::OsStringExt;
            Place::Folder(std::ffi::OsString::from_vec(output.stdout).into())
        }
        _ if !process.exists() => Place::Gone,
        Ok(_) | Err(_) => Place::Hidden,
    }
}

/// Whether the number is in use, also by a process of someone else.
fn is_alive(pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}
