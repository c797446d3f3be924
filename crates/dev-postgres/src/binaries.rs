//! Finds the server programs `initdb` and `postgres`.
//!
//! Looks where packages put them; searches no disk and downloads nothing.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ClusterError;

const NAMED_BY: &str = "CRVS_PG_BIN";
const HOMEBREW: [&str; 2] = ["/opt/homebrew/opt", "/usr/local/opt"];

/// The folders on this machine that hold `initdb` and `postgres`, best first.
///
/// In order: the environment's `CRVS_PG_BIN`, `PATH` (links resolved), `pg_config --bindir`,
/// `/usr/lib/postgresql/*/bin` and Homebrew's `postgresql@*`, newest version first.
pub fn bin_dirs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for candidate in candidates() {
        if holds_server(&candidate) {
            let real = resolved(candidate);
            if !found.contains(&real) {
                found.push(real);
            }
        }
    }
    found
}

/// The folder to use for data made by the major version `made_by` (`None`: for new data).
///
/// A folder named by the caller is the only one considered. One named by the environment has
/// to be right, but another is taken where only that one fits the data.
pub(crate) fn choose(named: Option<&Path>, data: &Path, made_by: Option<&str>) -> Result<PathBuf, ClusterError> {
    let dirs = if let Some(dir) = named {
        vec![must_hold_server(dir.to_owned())?]
    } else {
        if let Some(dir) = env::var_os(NAMED_BY) {
            must_hold_server(PathBuf::from(dir))?;
        }
        bin_dirs()
    };
    let Some(first) = dirs.first() else {
        return Err(ClusterError::NoBinaries);
    };
    let Some(made_by) = made_by else {
        return Ok(first.clone());
    };
    let versions: Vec<String> = dirs.iter().map(|dir| major_version(dir)).collect();
    match versions.iter().position(|version| version == made_by) {
        Some(at) => Ok(dirs[at].clone()),
        None => Err(ClusterError::OtherVersion {
            data: data.to_owned(),
            made_by: made_by.to_owned(),
            found: versions.join(", "),
        }),
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os(NAMED_BY).map(PathBuf::from).into_iter().collect();
    let path = env::var_os("PATH").unwrap_or_default();
    dirs.extend(env::split_paths(&path).filter(|dir| dir.is_absolute()));
    dirs.extend(from_pg_config());
    dirs.extend(versioned(Path::new("/usr/lib/postgresql"), ""));
    for prefix in HOMEBREW {
        dirs.extend(versioned(Path::new(prefix), "postgresql@"));
    }
    dirs
}

fn holds_server(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn must_hold_server(dir: PathBuf) -> Result<PathBuf, ClusterError> {
    if holds_server(&dir) { Ok(dir) } else { Err(ClusterError::NotBinaries { dir }) }
}

/// A folder of `PATH` may hold only links: the server looks for its other files beside the
/// real program, and the same programs should be listed once.
fn resolved(dir: PathBuf) -> PathBuf {
    let real = fs::canonicalize(dir.join("initdb")).ok();
    match real.as_deref().and_then(Path::parent) {
        Some(parent) if holds_server(parent) => parent.to_owned(),
        _ => dir,
    }
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    let dir = PathBuf::from(dir.trim());
    dir.is_absolute().then_some(dir)
}

/// `<parent>/<prefix><version>/bin`, newest version first.
fn versioned(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut dirs: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = leading_number(name.to_str()?.strip_prefix(prefix)?)?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    dirs.sort_by_key(|(version, _)| Reverse(*version));
    dirs.into_iter().map(|(_, dir)| dir).collect()
}

/// The major version of the programs in `dir`, as it would stand in `PG_VERSION`.
fn major_version(dir: &Path) -> String {
    // "postgres (PostgreSQL) 15.18 (Debian ...)", "postgres (PostgreSQL) 19beta1"
    let output = Command::new(dir.join("postgres")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let number = text.ok().and_then(|text| leading_number(text.split_whitespace().nth(2)?));
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{leading_number, versioned};
    use std::fs;

    #[test]
    fn the_major_version_is_read_from_releases_and_from_betas() {
        assert_eq!(leading_number("15.18"), Some(15));
        assert_eq!(leading_number("19beta1"), Some(19));
        assert_eq!(leading_number("devel"), None);
    }

    #[test]
    fn versioned_folders_are_ordered_by_number_and_newest_first() {
        let parent = std::env::temp_dir().join(format!("crvs-versions-{}", std::process::id()));
        for name in ["postgresql@9", "postgresql@17", "postgresql@16", "mysql@8"] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        let found = versioned(&parent, "postgresql@");
        fs::remove_dir_all(&parent).unwrap();
        let expected = ["postgresql@17/bin", "postgresql@16/bin", "postgresql@9/bin"];
        assert_eq!(found, expected.map(|name| parent.join(name)));
    }
}
