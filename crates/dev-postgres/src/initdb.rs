//! Makes the data folder, once.
//!
//! It is made under another name and renamed when it is whole, so an interrupted `initdb`
//! leaves nothing that looks like a cluster.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{ClusterError, blames_the_disk};
use crate::folder::{Folder, make_private};
use crate::user::ServerUser;

/// The major version that made the data, `None` when there is no data yet.
pub(crate) fn made_by(data: &Path) -> Result<Option<String>, ClusterError> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClusterError::at(&path)(error)),
    }
}

/// Makes `data` with the programs in `bin`. A throwaway cluster is not synced to the disk.
pub(crate) fn make(folder: &Folder, bin: &Path, user: ServerUser, throwaway: bool) -> Result<(), ClusterError> {
    let unfinished = folder.path().join("data.new");
    remove(&unfinished)?;
    make_private(&unfinished, user)?;
    if let Err(error) = run(&unfinished, bin, user, throwaway) {
        drop(remove(&unfinished)); // the first error says more
        return Err(error);
    }
    let data = folder.data();
    fs::rename(&unfinished, &data).map_err(ClusterError::at(&data))
}

fn run(to: &Path, bin: &Path, user: ServerUser, throwaway: bool) -> Result<(), ClusterError> {
    let program = bin.join("initdb");
    let mut command = user.command(&program);
    command.arg("--pgdata").arg(to);
    command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    if throwaway {
        command.arg("--no-sync");
    }
    let output = command.output().map_err(ClusterError::at(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    if blames_the_disk(&said) {
        return Err(ClusterError::DiskFull { dir: to.to_owned() });
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::Initdb { output: format!("{} ({})", errors.trim(), output.status) })
}

fn remove(dir: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ClusterError::at(dir)(error)),
        _ => Ok(()),
    }
}
