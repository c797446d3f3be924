//! What a piece of work took: time, WAL of the whole cluster, and time of cores – of this process and the programs that it
//! started, of the service, and of the database with all of its processes.
//!
//! Read before and after, so that it costs what is measured nothing. Work of others on the same cluster would be counted:
//! there is none. Time of cores is counted in ticks of the kernel, of 10 ms as a rule, for each process.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use super::BenchError;
use super::bed::Bed;
use super::figures::count;

/// Work that is being measured.
pub(super) struct Meter {
    conn: PgConnection,
    postmaster: u32,
    services: Vec<u32>,
    wal: i64,
    ticks: u64,
    started: Instant,
}

/// What it took.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// How many items of work were done.
    pub(super) items: usize,
    pub(super) seconds: f64,
    pub(super) wal_bytes: f64,
    pub(super) cpu_seconds: f64,
    /// How long each took, where that is of interest.
    pub(super) latencies: Vec<Duration>,
}

impl Meter {
    /// Begins. `services` are the processes of the service, if it is not this one.
    pub(super) async fn start(bed: &Bed<'_>, services: &[u32]) -> Result<Self, BenchError> {
        let mut conn = bed.quiet().await?;
        let (postmaster, services) = (bed.cluster.pid(), services.to_vec());
        let ticks = ticks(postmaster, &services)?;
        let wal = wal(&mut conn).await?;
        Ok(Self { conn, postmaster, services, wal, ticks, started: Instant::now() })
    }

    /// Ends: so many items of work were done.
    pub(super) async fn stop(mut self, items: usize) -> Result<Sample, BenchError> {
        let seconds = self.started.elapsed().as_secs_f64();
        let ticks = ticks(self.postmaster, &self.services)?.saturating_sub(self.ticks);
        let wal = wal(&mut self.conn).await?.saturating_sub(self.wal);
        self.conn.close().await?;
        let wal = usize::try_from(wal).unwrap_or_default();
        let cpu_seconds = seconds_of(ticks);
        Ok(Sample { items, seconds, wal_bytes: count(wal), cpu_seconds, latencies: Vec::new() })
    }
}

async fn wal(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").fetch_one(conn).await
}

/// Time of cores that one process has had so far, in seconds.
pub(super) fn of_process(pid: u32) -> std::io::Result<f64> {
    Ok(seconds_of(times(&Path::new("/proc").join(pid.to_string()).join("stat"))?.own))
}

fn seconds_of(ticks: u64) -> f64 {
    let per_second = usize::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    count(usize::try_from(ticks).unwrap_or_default()) / count(per_second)
}

/// Ticks that everybody who takes part has had so far.
fn ticks(postmaster: u32, services: &[u32]) -> std::io::Result<u64> {
    let with_ended = |times: &Times| times.own + times.ended;
    let mut sum = with_ended(&times(Path::new("/proc/self/stat"))?);
    for process in std::fs::read_dir("/proc")? {
        let process = process?;
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One may end while we look.
        let Ok(times) = times(&process.path().join("stat")) else {
            continue;
        };
        if pid == postmaster {
            sum += with_ended(&times);
        } else if times.parent == postmaster || services.contains(&pid) {
            sum += times.own;
        }
    }
    Ok(sum)
}

/// Ticks of one process, and of those that it started and saw end.
struct Times {
    parent: u32,
    own: u64,
    ended: u64,
}

/// Reads a `stat` of proc(5). The name, in parentheses, may hold anything.
fn times(stat: &Path) -> std::io::Result<Times> {
    let text = std::fs::read_to_string(stat)?;
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let read = || {
        let parent = u32::try_from(number(1)?).ok()?;
        Some(Times { parent, own: number(11)? + number(12)?, ended: number(13)? + number(14)? })
    };
    read().ok_or_else(|| std::io::Error::other("a stat of /proc is not as proc(5) says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_this_process_grows_with_its_work() {
        let own = || ticks(0, &[]).unwrap();
        let (before, started) = (own(), Instant::now());
        while own() == before {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
    }
}
