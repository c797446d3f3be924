//! Folders that are awkward to serve from.

use std::fs;
use std::os::unix::fs::symlink;

use dev_postgres::Cluster;

use crate::support::{TempFolder, ask};

#[test]
fn a_path_too_long_for_a_socket_gets_one_elsewhere_and_leaves_nothing_there() {
    let temp = TempFolder::new();
    let dir = temp.join(&"long".repeat(30));
    let cluster = Cluster::start(&dir).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    let socket_dir = ask(&cluster, "show unix_socket_directories");
    assert!(!socket_dir.starts_with(&*dir.to_string_lossy()));
    cluster.stop().unwrap();
    assert!(!fs::exists(socket_dir).unwrap());
}

#[test]
fn a_path_with_odd_characters_works() {
    let temp = TempFolder::new();
    let cluster = Cluster::start(&temp.join("it's a b&c=é")).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    let psql = std::process::Command::new("psql").args(["-XAtc", "select 2", &cluster.url()]).output();
    assert_eq!(psql.unwrap().stdout, b"2\n");
}

#[test]
fn a_folder_reached_through_a_link_is_the_same_folder() {
    let temp = TempFolder::new();
    fs::create_dir(temp.join("real")).unwrap();
    symlink(temp.join("real"), temp.join("link")).unwrap();
    let first = Cluster::start(&temp.join("real").join("pg")).unwrap();
    Cluster::start(&temp.join("link").join("pg")).unwrap_err();
    assert_eq!(ask(&first, "select 1"), "1");
}

/// As another user than root there is nothing to fall back from.
#[test]
fn root_below_a_closed_home_is_served_from_a_shared_place_and_told_so() {
    let closed = TempFolder::with_mode(0o700);
    let asked = closed.join("pg");
    let cluster = Cluster::start(&asked).unwrap();
    assert_eq!(ask(&cluster, "select 1"), "1");
    let dir = cluster.dir().to_owned();
    let note = cluster.note().map(str::to_owned);
    cluster.stop().unwrap();
    if dir == asked {
        assert_eq!(note, None);
    } else {
        fs::remove_dir_all(&dir).unwrap();
        assert!(dir.starts_with("/var/lib/crvs-outbox"), "{}", dir.display());
        assert!(note.unwrap().contains(&*dir.to_string_lossy()));
    }
}
