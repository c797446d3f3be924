//! Starting, stopping and starting again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use dev_postgres::{Cluster, Options};
use rustix::process::Signal;

use crate::support::{TempFolder, ask, eventually, is_running, send};

#[test]
fn a_first_start_makes_a_cluster_that_answers() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    assert_eq!(ask(&cluster, "select current_user"), "postgres");
    assert!(is_running(cluster.pid()));
    cluster.stop().unwrap();
}

#[test]
fn commits_are_synced_to_the_disk_and_nothing_listens_on_tcp() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&cluster, "show fsync"), "on");
    assert_eq!(ask(&cluster, "show synchronous_commit"), "on");
    assert_eq!(ask(&cluster, "show full_page_writes"), "on");
    assert_eq!(ask(&cluster, "show listen_addresses"), "");
}

#[test]
fn the_socket_is_in_a_folder_that_no_other_user_may_enter() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    let socket = ask(&cluster, "show unix_socket_directories");
    assert_eq!(fs::metadata(socket).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn data_outlives_a_stop() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    ask(&cluster, "create table kept as select 42 as answer");
    let pid = cluster.pid();
    cluster.stop().unwrap();
    assert!(!is_running(pid));
    let again = Cluster::start(&temp.join("pg")).unwrap();
    assert_eq!(ask(&again, "select answer from kept"), "42");
}

#[test]
fn a_dropped_cluster_is_stopped_and_its_folder_is_free() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    let pid = cluster.pid();
    drop(cluster);
    assert!(!is_running(pid));
    Cluster::start(&temp.join("pg")).unwrap();
}

#[test]
fn a_server_that_died_is_noticed() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("pg")).unwrap();
    assert!(cluster.is_running());
    send(Signal::QUIT, cluster.pid());
    eventually("the cluster says that it stopped", || !cluster.is_running());
    cluster.stop().unwrap();
}

#[test]
fn settings_are_taken_but_cannot_open_a_port() {
    let temp = TempFolder::new();
    let settings = [("max_connections", "7"), ("listen_addresses", "*")];
    let options = Options {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Options::default()
    };
    let cluster = Cluster::start_with(&temp.join("pg"), &options).unwrap();
    assert_eq!(ask(&cluster, "show max_connections"), "7");
    assert_eq!(ask(&cluster, "show listen_addresses"), "");
}

#[test]
fn a_throwaway_cluster_leaves_nothing() {
    let temp = TempFolder::new();
    let options = Options { throwaway: true, ..Options::default() };
    let cluster = Cluster::start_with(&temp.join("pg"), &options).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    cluster.stop().unwrap();
    assert!(!temp.join("pg").exists());
}
