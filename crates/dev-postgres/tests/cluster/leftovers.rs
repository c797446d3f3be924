//! Starting after an end that was not clean.

use std::fs;
use std::process::{Command, Stdio};

use dev_postgres::{Cluster, ClusterError};
use rustix::process::Signal;

use crate::support::{Owner, TempFolder, ask, eventually, run_as_owner_of, send};

#[test]
fn commits_survive_the_kill_of_owner_and_server() {
    let temp = TempFolder::new();
    let mut owner = Owner::start(&temp.join("pg"));
    let host = temp.join("pg").join("run");
    let insert = Command::new("psql")
        .arg("-h")
        .arg(host)
        .args(["-U", "postgres", "-Xqc", "create table kept as select generate_series(1, 1000)"])
        .status();
    assert!(insert.unwrap().success());
    send(Signal::KILL, owner.server);
    owner.kill();
    let again = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&again, "select count(*) from kept"), "1000");
    let log = fs::read_to_string(temp.join("pg").join("server.log")).unwrap();
    assert!(log.contains("automatic recovery in progress"), "{log}");
}

/// PostgreSQL itself refuses this when the other process is of the same user.
#[test]
fn a_left_pid_file_with_the_number_of_another_process_is_no_obstacle() {
    let temp = TempFolder::new();
    Cluster::start(&temp.join("pg")).unwrap().stop().unwrap();
    let data = temp.join("pg").join("data");
    let mut foreign = Command::new("sleep");
    foreign.arg("1000");
    run_as_owner_of(&data, &mut foreign);
    let mut foreign = foreign.spawn().unwrap();
    let socket = temp.join("pg").join("run");
    let text =
        format!("{}\n{}\n1700000000\n5432\n{}\n\n  1 2\nready\n", foreign.id(), data.display(), socket.display());
    fs::write(data.join("postmaster.pid"), &text).unwrap();
    fs::write(socket.join(".s.PGSQL.5432.lock"), &text).unwrap();

    let started = Cluster::start(&temp.join("pg"));
    let survived = foreign.try_wait().unwrap().is_none();
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    let cluster = started.unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    assert_ne!(cluster.pid(), foreign.id());
    assert!(survived, "the other process is left alone");
}

#[test]
fn a_server_without_owner_that_does_not_stop_is_named_and_left_alone() {
    let temp = TempFolder::new();
    Cluster::start(&temp.join("pg")).unwrap().stop().unwrap();
    let data = temp.join("pg").join("data");
    let mut stray = Command::new(dev_postgres::bin_dirs()[0].join("postgres"));
    stray.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-k"]).arg(temp.join("pg/run"));
    run_as_owner_of(&data, &mut stray);
    let mut stray = stray.stderr(Stdio::null()).spawn().unwrap();
    eventually("the stray server is up", || data.join("postmaster.pid").exists());

    let refused = Cluster::start(&temp.join("pg"));
    let survived = stray.try_wait().unwrap().is_none();
    send(Signal::INT, stray.id());
    stray.wait().unwrap();
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ClusterError::Orphan { .. }), "{refused}");
    assert!(survived, "{refused}");
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
}

#[test]
fn an_interrupted_initdb_is_begun_again() {
    let temp = TempFolder::new();
    let unfinished = temp.join("pg").join("data.new");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    assert!(!unfinished.exists());
}
