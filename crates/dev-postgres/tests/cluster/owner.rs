//! One owner, and no server without it.

use std::fs;

use dev_postgres::{Cluster, ClusterError};
use rustix::process::{Signal, getpgid};

use crate::support::{Owner, TempFolder, ask, eventually, is_running, pid, proc_status, send};

#[test]
fn a_second_instance_is_refused_with_the_pid_of_the_first() {
    let temp = TempFolder::new();
    let owner = Owner::start(&temp.join("pg"));
    let refused = Cluster::start(&temp.join("pg")).unwrap_err();
    assert!(matches!(refused, ClusterError::InUse { holder: Some(pid), .. } if pid == owner.process.id()), "{refused}");
    assert!(refused.to_string().ends_with(&format!("(pid {})", owner.process.id())));
    assert!(is_running(owner.server));
}

#[test]
fn two_clusters_of_one_process_on_one_folder_are_refused_too() {
    let temp = TempFolder::new();
    let first = Cluster::start(&temp.join("pg")).unwrap();
    let refused = Cluster::start(&temp.join("pg")).unwrap_err();
    assert!(matches!(refused, ClusterError::InUse { .. }), "{refused}");
    assert_eq!(ask(&first, "select 1"), "1");
}

#[test]
fn the_server_stops_when_its_owner_is_killed() {
    let temp = TempFolder::new();
    let mut owner = Owner::start(&temp.join("pg"));
    assert!(is_running(owner.server));
    owner.kill();
    eventually("the server is gone", || !is_running(owner.server));
    let log = fs::read_to_string(temp.join("pg").join("server.log")).unwrap();
    assert!(log.contains("received fast shutdown request"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn a_new_owner_may_follow_a_killed_one_at_once() {
    let temp = TempFolder::new();
    let mut owner = Owner::start(&temp.join("pg"));
    owner.kill();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
}

#[test]
fn a_cluster_may_be_started_in_a_thread_that_ends() {
    let temp = TempFolder::new();
    let dir = temp.join("pg");
    let cluster = std::thread::spawn(move || Cluster::start(&dir)).join().unwrap().unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    assert!(cluster.is_running());
}

#[test]
fn an_interrupt_at_the_terminal_reaches_only_the_owner() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    let group = |number| getpgid(Some(pid(number))).unwrap();
    assert_ne!(group(cluster.pid()), group(std::process::id()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_guard_was_killed_still_stops_with_its_owner() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    let server = cluster.pid();
    let guard = proc_status(server, "PPid:").parse().unwrap();
    send(Signal::KILL, guard);
    eventually("the guard is gone", || !cluster.is_running());
    assert!(is_running(server));
    drop(cluster);
    eventually("the server is gone", || !is_running(server));
}

/// What stays, as root, is at most the folder itself: its parent is not the server's to change.
#[test]
fn a_throwaway_folder_is_emptied_even_when_its_owner_is_killed() {
    let temp = TempFolder::new();
    let mut owner = Owner::start_throwaway(&temp.join("pg"));
    owner.kill();
    eventually("the folder holds nothing", || {
        fs::read_dir(temp.join("pg")).map_or(true, |mut entries| entries.next().is_none())
    });
    assert!(!is_running(owner.server));
}
