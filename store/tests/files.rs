//! What others may have put where a file store keeps its files.
#![cfg(unix)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grantflow_store::grantflow::store::{MAX_RECORD, RecordKey, Stored};
use grantflow_store::grantflow::{Client, Issuer};
use grantflow_store::{FileStore, Store as _, read_private, write_private};
use rustix::process::geteuid;
use tempfile::TempDir;

const LEASE: Duration = Duration::from_secs(60);
const SECRET: &[u8] = b"the secret of a grant";

fn key(label: &str) -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), label)
}

fn stored(version: u64) -> Stored {
    Stored::new(version, SECRET.to_vec())
}

/// A store with one record in it.
struct Place {
    folder: TempDir,
    store: FileStore,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("grants"));
        assert!(store.save(&key("a"), None, &stored(1)).unwrap());
        Self { folder, store }
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.store.directory().join(format!("{}.{kind}", key("a").name()))
    }

    /// A file of somebody else's, which must stay as it is.
    fn bystander(&self) -> PathBuf {
        let path = self.folder.path().join("bystander");
        fs::write(&path, "not ours").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Nothing can be done with the record, and the error says why; the record's file stays as it is.
    #[track_caller]
    fn refuses(&self, why: &str) {
        let read = || read_small(&self.file("grant"));
        let before = read();
        let results = [
            ("load", self.store.load(&key("a")).map(|_| ())),
            ("save", self.store.save(&key("a"), Some(1), &stored(2)).map(|_| ())),
            ("save new", self.store.save(&key("a"), None, &stored(1)).map(|_| ())),
            ("delete", self.store.delete(&key("a"), 1).map(|_| ())),
        ];
        for (what, result) in results {
            let text = result.expect_err(what).to_string();
            assert!(text.contains(why) && text.contains(&*self.folder.path().to_string_lossy()), "{what}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
        assert_eq!(read(), before);
    }
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let small = fs::metadata(path).unwrap().len() < 1 << 20;
    small.then(|| fs::read(path).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mkfifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
}

#[test]
fn a_file_that_others_may_read_is_refused_and_the_error_says_how_to_mend_it() {
    for loose in [0o644, 0o660, 0o604, 0o601] {
        let place = Place::new();
        set_mode(&place.file("grant"), loose);
        place.refuses("chmod 600");
        set_mode(&place.file("grant"), 0o600);
        assert_eq!(place.store.load(&key("a")).unwrap().unwrap().version, 1);
    }
}

#[test]
fn a_directory_that_others_may_use_is_refused() {
    let shared = "name a directory in it"; // as in /tmp, which must not be closed
    for (loose, how) in [(0o755, "chmod 700"), (0o770, "chmod 700"), (0o702, "chmod 700"), (0o1777, shared)] {
        let place = Place::new();
        set_mode(place.store.directory(), loose);
        place.refuses(how);
        assert!(place.store.try_lease(&key("a"), LEASE).is_err());
    }
}

#[test]
fn a_directory_whose_parent_others_may_write_to_is_refused() {
    let place = Place::new();
    set_mode(place.folder.path(), 0o777);
    place.refuses("chmod go-w");
    // As in /tmp, nobody can replace there what is another's.
    set_mode(place.folder.path(), 0o1777);
    assert!(place.store.load(&key("a")).unwrap().is_some());
    // A group of the user's own is nobody else; another may hold anyone.
    set_mode(place.folder.path(), 0o770);
    assert!(place.store.load(&key("a")).unwrap().is_some());
    if geteuid().as_raw() == 0 {
        chown(place.folder.path(), None, Some(12345)).unwrap();
        place.refuses("chmod go-w");
    }
}

#[test]
fn a_directory_behind_a_link_must_lie_as_safely_as_the_link() {
    let (place, elsewhere) = (Place::new(), tempfile::tempdir().unwrap());
    let link = elsewhere.path().join("link");
    symlink(place.folder.path(), &link).unwrap();
    let store = FileStore::new(link.join("grants"));
    assert!(store.load(&key("a")).unwrap().is_some());
    set_mode(place.folder.path(), 0o777);
    assert!(store.load(&key("a")).unwrap_err().to_string().contains("chmod go-w"));
    set_mode(place.folder.path(), 0o700);
    set_mode(elsewhere.path(), 0o777);
    assert!(store.load(&key("a")).unwrap_err().to_string().contains("chmod go-w"));
}

#[test]
fn a_link_in_place_of_a_file_is_refused_and_its_target_untouched() {
    for kind in ["grant", "lock", "lease"] {
        let place = Place::new();
        let target = place.bystander();
        let _ = fs::remove_file(place.file(kind));
        symlink(&target, place.file(kind)).unwrap();
        match kind {
            "grant" => place.refuses("no regular file"),
            "lock" => assert!(place.store.save(&key("a"), Some(1), &stored(2)).is_err()),
            _ => assert!(place.store.try_lease(&key("a"), LEASE).is_err()),
        }
        assert_eq!(fs::read(&target).unwrap(), b"not ours");
    }
}

#[test]
fn what_lies_where_the_new_file_goes_is_neither_followed_nor_kept() {
    let place = Place::new();
    let target = place.bystander();
    symlink(&target, place.file("new")).unwrap();
    assert!(place.store.save(&key("a"), Some(1), &stored(2)).unwrap());
    fs::write(place.file("new"), "half of a rec").unwrap();
    assert!(place.store.save(&key("a"), Some(2), &stored(3)).unwrap());
    assert!(!place.file("new").exists());
    assert_eq!(fs::read(&target).unwrap(), b"not ours");
    assert_eq!(mode(&place.file("grant")), 0o600);
}

#[test]
fn what_cannot_be_written_leaves_the_record_as_it_was() {
    let place = Place::new();
    // A directory there is not deleted: nothing new can be made.
    fs::create_dir(place.file("new")).unwrap();
    let text = place.store.save(&key("a"), Some(1), &stored(2)).unwrap_err().to_string();
    assert!(text.contains("cannot be written"), "{text}");
    assert_eq!(place.store.load(&key("a")).unwrap().unwrap().version, 1);
}

#[test]
fn a_directory_that_is_a_link_is_refused() {
    let place = Place::new();
    let link = place.folder.path().join("link");
    symlink(place.store.directory(), &link).unwrap();
    let store = FileStore::new(&link);
    let text = store.load(&key("a")).unwrap_err().to_string();
    assert!(text.contains("or a link to one"), "{text}");
    assert!(store.try_lease(&key("a"), LEASE).is_err());
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    for kind in ["grant", "lock", "lease"] {
        let place = Place::new();
        let _ = fs::remove_file(place.file(kind));
        mkfifo(&place.file(kind));
        let start = Instant::now();
        let failure = match kind {
            "grant" => place.store.load(&key("a")).unwrap_err(),
            "lock" => place.store.save(&key("a"), Some(1), &stored(2)).unwrap_err(),
            _ => place.store.try_lease(&key("a"), LEASE).unwrap_err(),
        };
        assert!(failure.to_string().contains("no regular file"), "{failure}");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_file_with_a_second_name_is_refused() {
    let place = Place::new();
    fs::hard_link(place.file("grant"), place.folder.path().join("other name")).unwrap();
    place.refuses("hard link");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    if geteuid().as_raw() != 0 {
        // Only root can give a file away; but what is root's is another user's here.
        let text = FileStore::new("/usr").load(&key("a")).unwrap_err().to_string();
        assert!(text.contains("another user"), "{text}");
        return;
    }
    let place = Place::new();
    for path in [place.file("grant"), place.store.directory().to_owned(), place.folder.path().to_owned()] {
        chown(&path, Some(12345), None).unwrap();
        place.refuses("another user (uid 12345)");
        chown(&path, Some(0), None).unwrap();
    }
    // A link on the way there that another could turn.
    let link = place.folder.path().join("link");
    symlink(place.folder.path(), &link).unwrap();
    let store = FileStore::new(link.join("grants"));
    assert!(store.load(&key("a")).unwrap().is_some());
    std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
    assert!(store.load(&key("a")).unwrap_err().to_string().contains("another user"));
}

#[test]
fn what_is_no_record_is_an_error_that_names_the_file_and_is_never_overwritten() {
    let whole = stored(1).to_bytes();
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    cases.extend([
        b"{}".to_vec(),
        b"\xff\xfe\0\0".to_vec(),
        b"grantflow record 2 version 1\n{}".to_vec(),
        b"grantflow record 1 version -1 00\n{}".to_vec(),
        b"grantflow record 1 version 99999999999999999999 00\n{}".to_vec(),
        vec![b'['; MAX_RECORD],
        vec![b'x'; MAX_RECORD + 1],
    ]);
    let place = Place::new();
    for case in cases {
        fs::write(place.file("grant"), &case).unwrap();
        place.refuses(".grant");
    }
}

#[test]
fn a_huge_file_is_refused_unread() {
    let place = Place::new();
    File::options().write(true).open(place.file("grant")).unwrap().set_len(1 << 30).unwrap();
    let start = Instant::now();
    place.refuses("larger than");
    assert!(start.elapsed() < Duration::from_secs(1));
    let too_large = Stored::new(2, vec![0; MAX_RECORD]);
    assert!(place.store.save(&key("b"), None, &too_large).is_err(), "what could not be read back is not written");
    assert!(place.store.load(&key("b")).unwrap().is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_holds_more_than_it_says_is_cut_at_the_limit() {
    // Its size is 0, as the system tells it.
    let text = read_private("/proc/self/environ", 1).unwrap_err().to_string();
    assert!(text.contains("larger than 1 bytes"), "{text}");
}

#[test]
fn no_label_leads_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("grants"));
    for label in ["../../x", "/etc/passwd", "CON", "a\0b", &"x".repeat(300), ".", "", "ä/ö"] {
        assert!(store.save(&key(label), None, &stored(1)).unwrap());
        assert!(store.load(&key(label)).unwrap().is_some());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    for entry in fs::read_dir(store.directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (hash, kind) = name.split_once('.').unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert!(["grant", "lock"].contains(&kind), "{name}");
    }
}

#[test]
fn nothing_is_made_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("not/there"));
    assert!(store.load(&key("a")).unwrap().is_none());
    assert!(!store.delete(&key("a"), 1).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_private_file_is_replaced_as_a_whole_and_read_with_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("application_default_credentials.json");
    assert!(read_private(&path, 100).unwrap().is_none());
    fs::write(&path, "of others").unwrap();
    set_mode(&path, 0o644);
    assert!(read_private(&path, 100).unwrap_err().to_string().contains("chmod 600"));
    write_private(&path, b"{}").unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(&**read_private(&path, 2).unwrap().unwrap(), b"{}");
    assert!(read_private(&path, 1).unwrap_err().to_string().contains("larger than 1 bytes"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was left behind");

    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(write_private(&link, b"x").is_err() && read_private(&link, 100).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert!(write_private(folder.path().join("no/folder"), b"x").is_err());
}
