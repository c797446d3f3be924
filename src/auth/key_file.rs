//! A file with a secret that instances which start at once agree on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The text of the file; `None` when there is no such file.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the file with mode 0600, whole or not at all, unless there is one by now: then its text
/// is returned, and it stays as it is.
pub(super) fn publish(path: &Path, text: &str) -> io::Result<Option<String>> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", Uuid::new_v4().simple()));
    let temporary = PathBuf::from(name);
    let linked = write_new(&temporary, text).and_then(|()| link(&temporary, path));
    let removed = match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let first = linked?;
    // A second name of the file would be a second copy of the secret.
    removed?;
    if first {
        return Ok(None);
    }
    fs::read_to_string(path).map(Some)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Says whether the name was free. A hard link, unlike a rename, fails when it is taken.
fn link(temporary: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    let parent = path.parent().filter(|name| !name.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::Directory;
    use super::*;

    #[test]
    fn the_first_to_write_wins_and_the_others_read_its_text() {
        let directory = Directory::new();
        let path = directory.path().join("key");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(publish(&path, "first").unwrap(), None);
        assert_eq!(publish(&path, "second").unwrap().unwrap(), "first");
        assert_eq!(read(&path).unwrap().unwrap(), "first");
    }

    #[test]
    fn only_the_owner_can_read_the_file_and_no_copy_is_left() {
        let directory = Directory::new();
        let path = directory.path().join("key");
        publish(&path, "text").unwrap();
        publish(&path, "text").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = Directory::new();
        let path = directory.path().join("missing").join("key");
        assert_eq!(publish(&path, "x").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
