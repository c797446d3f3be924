//! The machine and the program of a run, as far as they can be told afterwards. What cannot is said to be unknown.

use std::fs;
use std::path::Path;
use std::process::Command;

use time::OffsetDateTime;
use time::macros::format_description;

use crate::{Failure, root};

/// What figures depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Machine {
    /// Its processor's name.
    pub(super) processor: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) postgres: Option<String>,
    /// The day on which the figures were written, in UTC.
    pub(super) day: Option<String>,
    /// Of the program.
    pub(super) build: Option<String>,
    /// Of the sources, when the page was written.
    pub(super) commit: Option<String>,
}

impl Machine {
    /// This one. The figures are in `file`; `release`: their program was built so.
    pub(super) fn this(file: &Path, release: bool) -> Result<Self, Failure> {
        let root = root()?;
        Ok(Self {
            processor: value_in("/proc/cpuinfo", "model name"),
            memory: value_in("/proc/meminfo", "MemTotal").and_then(|text| gigabytes(&text)),
            postgres: postgres(),
            day: Some(day(fs::metadata(file)?.modified()?.into())?),
            build: release.then(|| "release".to_owned()),
            commit: commit(&root),
        })
    }
}

/// The first value of a name in a file of the kernel.
fn value_in(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

/// `12345678 kB`, where a kB is 1024 bytes, as `11.8 GiB`.
fn gigabytes(text: &str) -> Option<String> {
    let kilobytes: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
    let tenths = kilobytes * 10 / (1024 * 1024);
    Some(format!("{}.{} GiB", tenths / 10, tenths % 10))
}

/// The version of the server programs that `bench` takes.
fn postgres() -> Option<String> {
    told(Command::new(dev_postgres::bin_dirs().first()?.join("postgres")).arg("--version"))
}

fn day(of: OffsetDateTime) -> Result<String, Failure> {
    Ok(of.format(format_description!("[year]-[month]-[day]"))?)
}

/// Its short hash, and whether there were changes. The page itself and its plots are none.
fn commit(root: &Path) -> Option<String> {
    let hash = told(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(root))?;
    let mut status = Command::new("git");
    status.args(["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/performance*"]).current_dir(root);
    let changed = told(&mut status).is_some();
    Some(if changed { format!("{hash}, with changes") } else { hash })
}

/// What a program prints, if it succeeds and prints anything.
fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_day_are_for_people() {
        assert_eq!(gigabytes("16384000 kB").as_deref(), Some("15.6 GiB"));
        assert_eq!(gigabytes("much"), None);
        assert_eq!(day(OffsetDateTime::UNIX_EPOCH).unwrap(), "1970-01-01");
    }
}
