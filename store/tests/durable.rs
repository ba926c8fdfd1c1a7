//! What is saved is on the disk before it counts, as the system calls show.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};
use std::{env, fs};

use grantflow_store::grantflow::store::{RecordKey, Stored};
use grantflow_store::grantflow::{Client, Issuer};
use grantflow_store::{FileStore, Store as _};

#[test]
fn a_save_syncs_the_file_puts_it_in_its_place_and_syncs_the_directory() {
    const INSIDE: &str = "GRANTFLOW_TEST_DURABLE";
    let key = RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice");
    if let Some(directory) = env::var_os(INSIDE) {
        let store = FileStore::new(directory);
        assert!(store.save(&key, None, &Stored::new(1, b"secret".to_vec())).unwrap());
        assert!(store.delete(&key, 1).unwrap());
        return;
    }
    let traced = Command::new("strace").arg("true").stderr(Stdio::null()).status();
    if !traced.is_ok_and(|status| status.success()) {
        eprintln!("\n*** strace is not installed or may not trace: WHETHER SAVES ARE DURABLE WAS NOT TESTED ***\n");
        return;
    }
    // The same again, watched.
    let folder = tempfile::tempdir().unwrap();
    let (directory, trace) = (folder.path().join("grants"), folder.path().join("trace"));
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-e", "trace=openat,/chmod,fsync,rename,renameat,renameat2,unlink,unlinkat", "-o"])
        .arg(&trace);
    command.arg(env::current_exe().unwrap()).env(INSIDE, &directory);
    let name = "a_save_syncs_the_file_puts_it_in_its_place_and_syncs_the_directory";
    assert!(command.args(["--exact", name]).stdout(Stdio::null()).status().unwrap().success());
    let (trace, directory) = (fs::read_to_string(trace).unwrap(), directory.to_str().unwrap());
    let record = format!("{directory}/{}", key.name());
    // Private from the first byte, in a file that was not there; nothing is closed to others after the fact.
    let opened = trace.lines().find(|line| line.contains("openat(") && line.contains(&format!("{record}.new\"")));
    for flag in ["O_CREAT", "O_EXCL", "O_NOFOLLOW", "0600)"] {
        assert!(opened.is_some_and(|line| line.contains(flag)), "no {flag} at {opened:?}");
    }
    assert!(!trace.contains("chmod("), "{trace}");
    let mut calls = trace.lines().filter(|line| line.contains(directory) && line.ends_with("= 0"));
    for (call, path) in [
        ("fsync", format!("{record}.new>")),
        ("rename", format!("{record}.grant\"")),
        ("fsync", format!("{directory}>")),
        ("unlink", format!("{record}.grant\"")),
        ("fsync", format!("{directory}>")),
    ] {
        assert!(calls.any(|line| line.contains(call) && line.contains(&path)), "no {call} of {path} in:\n{trace}");
    }
}
