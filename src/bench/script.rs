//! Limits: the same work in plain SQL, without a service around it. A script is of pgbench's language, of which it uses
//! `:name`, `;` and `\gset`, and is run by pgbench where that is installed; else by a few lines here, to the same effect.
//!
//! Whatever goes in and out of a statement is text (`:ids::text::bigint[]`), since the two bind differently. No text in quotes
//! holds a colon or a semicolon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::BenchError;
use super::figures::count;
use crate::db;

/// Who runs scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    Pgbench(PathBuf),
    Own,
}

impl Runner {
    /// pgbench beside the server's programs or in the path, if it is anywhere.
    pub(super) fn find(bin_dir: &Path) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs = std::iter::once(bin_dir.to_owned()).chain(std::env::split_paths(&path));
        dirs.find_map(|dir| Some(dir.join("pgbench")).filter(|p| p.is_file())).map_or(Self::Own, Self::Pgbench)
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pgbench(_) => "pgbench",
            Self::Own => "plain SQL",
        }
    }
}

/// How long each client goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// So many times through the script.
    Turns(usize),
    /// So many seconds, after some that do not count: a new connection's first transactions fill its server process's caches.
    Seconds(u32),
}

/// Those seconds.
fn warm_up(clients: usize) -> u32 {
    1 + u32::try_from(clients / 64).unwrap_or_default()
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(super) struct Load<'a> {
    pub(super) url: &'a str,
    pub(super) script: &'static str,
    /// Clients, each with a connection of its own.
    pub(super) clients: usize,
    pub(super) until: Until,
    /// Variables that the script begins with.
    pub(super) variables: &'a [(&'a str, String)],
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    /// Times through the script, of all clients together.
    pub(super) turns: usize,
    /// How long they took at the rate that was measured, without the time that connecting took.
    pub(super) seconds: f64,
}

/// Runs a script. `dir` is for its file.
pub(super) async fn run(runner: &Runner, dir: &Path, load: &Load<'_>) -> Result<Ran, BenchError> {
    match runner {
        Runner::Pgbench(program) => pgbench(program, dir, load).await,
        Runner::Own => own(load).await,
    }
}

async fn pgbench(program: &Path, dir: &Path, load: &Load<'_>) -> Result<Ran, BenchError> {
    let file = dir.join("limit.sql");
    std::fs::write(&file, load.script)?;
    let clients = load.clients.to_string();
    let mut command = Command::new(program);
    command.args(["-n", "-M", "prepared", "-c", &clients, "-j", &load.clients.min(2).to_string()]).arg("-f").arg(&file);
    for (name, value) in load.variables {
        command.arg("-D").arg(format!("{name}={value}"));
    }
    match load.until {
        Until::Turns(turns) => command.args(["-t", &turns.to_string()]),
        // A second more: of the last one there is not always a line.
        Until::Seconds(seconds) => command.args(["-P", "1", "-T", &(seconds + warm_up(load.clients) + 1).to_string()]),
    };
    command.arg(load.url).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let told = String::from_utf8_lossy(&output.stdout);
    let after = |name: &str| told.lines().find_map(|line| line.strip_prefix(name))?.split([' ', '/']).next();
    let turns = after("number of transactions actually processed: ").and_then(|n| n.parse::<usize>().ok());
    let (rate, said) = (after("tps = ").and_then(|n| n.parse::<f64>().ok()), String::from_utf8_lossy(&output.stderr));
    let rate = match load.until {
        Until::Turns(_) => rate,
        Until::Seconds(_) => progress(&said, warm_up(load.clients)),
    };
    match turns.zip(rate) {
        Some((turns, rate)) if output.status.success() && rate > 0.0 => Ok(Ran { turns, seconds: count(turns) / rate }),
        Some(_) | None if output.status.success() => Err(BenchError::Limit(NOTHING.to_owned())),
        Some(_) | None => Err(BenchError::Limit(said.trim().to_owned())),
    }
}

const NOTHING: &str = "nothing was done in time";

/// The mean rate of pgbench's lines of progress after so many seconds.
fn progress(said: &str, after: u32) -> Option<f64> {
    let mut rates = Vec::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("progress: ")) {
        let mut words = line.split_whitespace();
        let (at, rate) = (words.next()?.parse::<f64>().ok()?, words.nth(1)?.parse::<f64>().ok()?);
        if at > f64::from(after) + 0.5 {
            rates.push(rate);
        }
    }
    (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / count(rates.len()))
}

async fn own(load: &Load<'_>) -> Result<Ran, BenchError> {
    let statements: Arc<[Statement]> = statements(load.script).into();
    let (mut tasks, ready) = (JoinSet::new(), Arc::new(Barrier::new(load.clients + 1)));
    let until = (load.until, warm_up(load.clients));
    for client in 0..load.clients {
        let conn = PgConnection::connect_with(&db::options(load.url)?.disable_statement_logging()).await?;
        let mut variables: HashMap<String, String> =
            load.variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        variables.insert("client_id".to_owned(), client.to_string());
        tasks.spawn(turn_after_turn(conn, Arc::clone(&statements), variables, until, Arc::clone(&ready)));
    }
    ready.wait().await;
    let started = Instant::now();
    let (mut turns, mut counted) = (0, 0);
    while let Some(one) = tasks.join_next().await {
        let (all, after_warming_up) = one??;
        turns += all;
        counted += after_warming_up;
    }
    let warm_up = match load.until {
        Until::Turns(_) => 0.0,
        Until::Seconds(_) => f64::from(warm_up(load.clients)),
    };
    let rate = count(counted) / (started.elapsed().as_secs_f64() - warm_up).max(f64::EPSILON);
    if counted == 0 {
        return Err(BenchError::Limit(NOTHING.to_owned()));
    }
    Ok(Ran { turns, seconds: count(turns) / rate })
}

/// Returns how often it went through the script: in all, and after the warm-up.
async fn turn_after_turn(
    mut conn: PgConnection,
    statements: Arc<[Statement]>,
    mut variables: HashMap<String, String>,
    (until, warm_up): (Until, u32),
    ready: Arc<Barrier>,
) -> Result<(usize, usize), BenchError> {
    ready.wait().await;
    let (mut turns, mut counted, started) = (0, 0, Instant::now());
    let after = |seconds: u32| started.elapsed() >= Duration::from_secs(u64::from(seconds));
    loop {
        let done = match until {
            Until::Turns(wanted) => turns >= wanted,
            Until::Seconds(seconds) => after(seconds + warm_up),
        };
        if done {
            break;
        }
        for statement in &*statements {
            statement.run(&mut conn, &mut variables).await?;
        }
        turns += 1;
        counted += usize::from(matches!(until, Until::Turns(_)) || after(warm_up));
    }
    conn.close().await?;
    Ok((turns, counted))
}

/// A statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    /// With its variables numbered.
    sql: Arc<str>,
    /// Their names, in that order.
    names: Vec<String>,
    /// Whether its one row becomes variables.
    kept: bool,
}

impl Statement {
    async fn run(&self, conn: &mut PgConnection, variables: &mut HashMap<String, String>) -> sqlx::Result<()> {
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&self.sql)));
        for name in &self.names {
            query = query.bind(variables.get(name).map(String::as_str));
        }
        if !self.kept {
            return query.execute(conn).await.map(drop);
        }
        let row: PgRow = query.fetch_one(conn).await?;
        for column in row.columns() {
            let value: Option<String> = row.try_get(column.ordinal())?;
            variables.insert(column.name().to_owned(), value.unwrap_or_default());
        }
        Ok(())
    }
}

/// Takes a script apart.
fn statements(script: &str) -> Vec<Statement> {
    let uncommented = script.lines().filter(|line| !line.trim_start().starts_with("--"));
    let script = uncommented.collect::<Vec<_>>().join("\n");
    let (mut rest, mut list) = (script.as_str(), Vec::new());
    while let Some(end) = [rest.find(';'), rest.find("\\gset")].into_iter().flatten().min() {
        let (text, after) = rest.split_at(end);
        let kept = after.starts_with("\\gset");
        list.push(numbered(text.trim(), kept));
        rest = after.get(if kept { "\\gset".len() } else { 1 }..).unwrap_or_default();
    }
    list
}

/// Numbers the variables of a statement, the same name each time alike. `::` is a cast.
fn numbered(text: &str, kept: bool) -> Statement {
    let (mut sql, mut names) = (String::new(), Vec::<String>::new());
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let (before, after) = rest.split_at(at);
        sql.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        let len = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, beyond) = after.split_at(len);
        if name.is_empty() {
            sql.push_str("::");
            rest = after.strip_prefix(':').unwrap_or(after);
            continue;
        }
        let known = names.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        sql.push('$');
        sql.push_str(&(number + 1).to_string());
        rest = beyond;
    }
    sql.push_str(rest);
    Statement { sql: sql.into(), names, kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seconds_of_pgbench_do_not_count() {
        let said =
            "progress: 1.0 s, 10.0 tps, lat 1\nprogress: 2.0 s, 100.0 tps, lat 1\nprogress: 3.0 s, 200.0 tps, lat 1\n";
        assert_eq!(progress(said, 1), Some(150.0));
        assert_eq!(progress("", 1), None);
    }

    #[test]
    fn a_script_is_taken_apart_as_pgbench_does() {
        let script = "-- what it is;\nselect a::text as ids from t where n = :n::text::int and m = :n \\gset\ndelete from t where id = any(:ids::text::bigint[]);\n";
        let list = statements(script);
        assert_eq!(list.len(), 2);
        assert_eq!(&*list[0].sql, "select a::text as ids from t where n = $1::text::int and m = $1");
        assert!(list[0].kept && !list[1].kept);
        assert_eq!(
            (&*list[1].sql, list[1].names.as_slice()),
            ("delete from t where id = any($1::text::bigint[])", &["ids".to_owned()][..])
        );
    }
}
