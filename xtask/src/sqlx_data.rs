//! `sqlx-data.json`: what a real server says of every query in the code.
//!
//! It covers all that `cargo check --workspace --all-targets` compiles, and nothing else.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use dev_postgres::{Cluster, Options};

use crate::pack::Pack;
use crate::{Failure, migrations, root};

/// Writes the file anew.
pub(crate) fn write() -> Result<String, Failure> {
    let root = root()?;
    let pack = describe(&root)?;
    pack.write(&file(&root))?;
    Ok(format!("sqlx-data.json: {} queries", pack.len()))
}

/// Fails when the committed file is not what would be written.
pub(crate) fn check() -> Result<String, Failure> {
    let root = root()?;
    let committed =
        Pack::read(&file(&root)).map_err(|failure| format!("{failure}: run `make sqlx-data` and commit it"))?;
    let current = describe(&root)?;
    let differences = current.differences(&committed);
    if differences.is_empty() {
        return Ok(format!("sqlx-data.json is up to date: {} queries", current.len()));
    }
    let list = differences.join("\n  ");
    Err(format!("sqlx-data.json is out of date: run `make sqlx-data` and commit it\n  {list}").into())
}

/// Lets the macros ask a new database with the current schema.
fn describe(root: &Path) -> Result<Pack, Failure> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // New names each time: the build script then runs again, and every query is asked again.
    let scratch = root.join(target).join("sqlx-data").join(process::id().to_string());
    let answers = scratch.join("answers");
    fs::create_dir_all(&answers).map_err(|error| format!("{}: {error}", answers.display()))?;
    let pack = describe_in(root, &scratch, &answers);
    fs::remove_dir_all(&scratch)?;
    pack
}

fn describe_in(root: &Path, scratch: &Path, answers: &Path) -> Result<Pack, Failure> {
    let throwaway = Options { throwaway: true, ..Options::default() };
    let cluster = Cluster::start_with(&scratch.join("pg"), &throwaway)?;
    migrations::apply(root, &cluster)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(&cargo)
        .args(["check", "--workspace", "--all-targets", "--locked", "--quiet"])
        .current_dir(root)
        .env("DATABASE_URL", cluster.url())
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", answers)
        .status()?;
    cluster.stop()?;
    if !status.success() {
        return Err("the queries could not be described: see the errors above".into());
    }
    Pack::merge(answers)
}

fn file(root: &Path) -> PathBuf {
    root.join("sqlx-data.json")
}
