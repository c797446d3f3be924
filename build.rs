//! Unpacks the committed `sqlx-data.json` into the folder of small files that sqlx's macros
//! read, inside `OUT_DIR`, and points the macros at it: building needs no database.
//!
//! It checks no query. That is what `cargo xtask sqlx-data --check` is for.

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

const PACK: &str = "sqlx-data.json";

/// Read by macros or by the xtask, which do not see by themselves that a file was added.
const WATCHED: [&str; 3] = ["migrations", PACK, "src/sandbox/schema.sql"];

fn main() -> Result<(), Box<dyn Error>> {
    watch();
    // The xtask asks a real server: the macros are then to be left alone.
    if matches!(env::var("SQLX_OFFLINE").as_deref(), Ok("false" | "0")) {
        return Ok(());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("sqlx");
    unpack(&read_pack()?, &out)?;
    println!("cargo::rustc-env=SQLX_OFFLINE=true");
    println!("cargo::rustc-env=SQLX_OFFLINE_DIR={}", out.display());
    Ok(())
}

fn watch() {
    println!("cargo::rerun-if-changed=build.rs");
    // A path that does not exist would make cargo run this at every build.
    for path in WATCHED.into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=SQLX_OFFLINE");
    println!("cargo::rerun-if-env-changed=SQLX_OFFLINE_DIR");
}

fn read_pack() -> Result<Map<String, Value>, Box<dyn Error>> {
    let text = match fs::read_to_string(PACK) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{PACK} is missing: run `make sqlx-data`").into());
        }
        Err(error) => return Err(format!("{PACK}: {error}").into()),
    };
    serde_json::from_str(&text).map_err(|error| format!("{PACK} is damaged ({error}): run `make sqlx-data`").into())
}

/// One file for each query, by the hash of its text.
fn unpack(pack: &Map<String, Value>, to: &Path) -> Result<(), Box<dyn Error>> {
    if to.exists() {
        fs::remove_dir_all(to)?; // queries that were removed
    }
    fs::create_dir_all(to)?;
    let db = pack.get("db").ok_or_else(|| format!("{PACK} does not name its `db`"))?;
    for (hash, entry) in pack.iter().filter(|(key, _)| *key != "db") {
        let query = json!({
            "db_name": db,
            "query": entry.get("query"),
            "describe": entry.get("describe"),
            "hash": hash,
        });
        fs::write(to.join(format!("query-{hash}.json")), query.to_string())?;
    }
    Ok(())
}
