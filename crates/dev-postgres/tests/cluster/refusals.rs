//! What cannot work is refused in words that help.

use std::fs;

use dev_postgres::{Cluster, ClusterError, Options};

use crate::support::{TempFolder, fake_initdb};

fn with_programs(temp: &TempFolder, script: &str) -> Options {
    fake_initdb(&temp.join("bin"), script);
    Options { bin_dir: Some(temp.join("bin")), ..Options::default() }
}

#[test]
fn data_of_another_major_version_is_refused_naming_both() {
    let temp = TempFolder::new();
    let data = temp.join("pg").join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let options = with_programs(&temp, "exit 1");
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    let ClusterError::OtherVersion { made_by, found, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(made_by, "9");
    let text = refused.to_string();
    assert!(text.contains("made by PostgreSQL 9"), "{text}");
    assert!(text.contains(&format!("are of PostgreSQL {found}")), "{text}");
    assert!(text.contains("install PostgreSQL 9"), "{text}");
    assert!(data.join("PG_VERSION").exists());
}

#[test]
fn a_full_disk_during_the_first_start_is_called_that() {
    let temp = TempFolder::new();
    let script = "echo 'initdb: error: could not write to file: No space left on device' >&2; exit 1";
    let options = with_programs(&temp, script);
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(matches!(refused, ClusterError::DiskFull { .. }), "{refused}");
    assert!(!temp.join("pg").join("data.new").exists());
    assert!(!temp.join("pg").join("data").exists());
}

#[test]
fn another_failure_of_initdb_is_told_in_its_own_words() {
    let temp = TempFolder::new();
    let options = with_programs(&temp, "echo 'initdb: error: the moon is full' >&2; exit 3");
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(matches!(refused, ClusterError::Initdb { .. }), "{refused}");
    assert!(refused.to_string().contains("the moon is full"), "{refused}");
}

#[test]
fn a_server_that_does_not_start_is_told_with_the_end_of_its_log() {
    let temp = TempFolder::new();
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let options = Options { settings, ..Options::default() };
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(matches!(refused, ClusterError::NotStarted { .. }), "{refused}");
    assert!(refused.to_string().contains("no_such_setting"), "{refused}");
    Cluster::start(&temp.join("pg")).unwrap();
}

#[test]
fn a_folder_without_the_programs_is_refused_by_name() {
    let temp = TempFolder::new();
    let options = Options { bin_dir: Some(temp.join("nothing")), ..Options::default() };
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(matches!(refused, ClusterError::NotBinaries { .. }), "{refused}");
}

#[test]
fn a_throwaway_cluster_refuses_a_folder_that_holds_something() {
    let temp = TempFolder::new();
    fs::create_dir(temp.join("pg")).unwrap();
    fs::write(temp.join("pg").join("thesis.tex"), "years of work").unwrap();
    let options = Options { throwaway: true, ..Options::default() };
    let refused = Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(matches!(refused, ClusterError::NotEmpty { .. }), "{refused}");
    assert!(temp.join("pg").join("thesis.tex").exists());
}

#[test]
fn a_throwaway_start_that_fails_leaves_nothing() {
    let temp = TempFolder::new();
    let options = Options { throwaway: true, ..with_programs(&temp, "exit 1") };
    Cluster::start_with(&temp.join("pg"), &options).unwrap_err();
    assert!(!temp.join("pg").exists());
}
