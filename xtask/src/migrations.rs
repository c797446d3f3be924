//! Applies the schema to an empty database with `psql`, in the way the service does.
//!
//! It keeps no history: a database it was applied to is thrown away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dev_postgres::Cluster;

use crate::Failure;

/// The first line of a migration that does not run in a transaction.
const NO_TRANSACTION: &str = "-- crvs:no-transaction";

/// Every migration in the order of its number, then the sandbox's schema, where there is one.
pub(crate) fn apply(root: &Path, cluster: &Cluster) -> Result<(), Failure> {
    let mut files = ordered(&root.join("migrations"))?;
    files.extend(Some(root.join("src/sandbox/schema.sql")).filter(|file| file.exists()));
    for file in files {
        run(&file, cluster)?;
    }
    Ok(())
}

fn ordered(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            found.push((number(&path)?, path));
        }
    }
    found.sort();
    if let Some(twice) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("two migrations have the number {}", twice[0].0).into());
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The service skips a file with another kind of name in silence: better to fail here.
fn number(path: &Path) -> Result<u32, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix('V').and_then(|rest| rest.split_once("__"));
    number
        .and_then(|(number, _)| number.parse().ok())
        .ok_or_else(|| format!("{}: not named V<number>__<words>.sql", path.display()).into())
}

fn run(file: &Path, cluster: &Cluster) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut psql = psql(cluster);
    psql.args(["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"]);
    if text.lines().next().map(str::trim) != Some(NO_TRANSACTION) {
        psql.arg("--single-transaction");
    }
    let status = psql.arg("--file").arg(file).arg("--dbname").arg(cluster.url()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{} does not apply", file.display()).into()),
        Err(error) => Err(format!("psql: {error}").into()),
    }
}

/// The one beside the server, which fits it; some packages hold only the server.
fn psql(cluster: &Cluster) -> Command {
    let beside = cluster.bin_dir().join("psql");
    Command::new(if beside.exists() { beside } else { PathBuf::from("psql") })
}

#[cfg(test)]
mod tests {
    use super::{number, ordered};
    use std::fs;
    use std::path::Path;

    #[test]
    fn migrations_are_ordered_by_number_not_by_name() {
        let dir = std::env::temp_dir().join(format!("xtask-migrations-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for name in ["V10__b.sql", "V2__a.sql", "V1__c.sql", "README.md"] {
            fs::write(dir.join(name), "").unwrap();
        }
        let files = ordered(&dir);
        fs::remove_dir_all(&dir).unwrap();
        let expected = ["V1__c.sql", "V2__a.sql", "V10__b.sql"].map(|name| dir.join(name));
        assert_eq!(files.unwrap(), expected);
    }

    #[test]
    fn a_migration_with_another_kind_of_name_is_an_error() {
        assert_eq!(number(Path::new("migrations/V7__x.sql")).unwrap(), 7);
        assert!(number(Path::new("migrations/V7_x.sql")).is_err());
        assert!(number(Path::new("migrations/7__x.sql")).is_err());
    }
}
