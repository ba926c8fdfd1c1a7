//! A load and a save, sealed and not, beside the plain client of the same engine doing the same statements in the same run:
//! `cargo bench -p grantflow-store --features postgres,redis --bench stores`. With `-- --check` it fails where a store
//! takes more than 1.3 times as long, and some noise. With names of engines, only those.
//!
//! - **files**: the plain way is the system calls that the store makes, by `std` and `rustix`. A load looks at the folder and
//!   those above it, opens the file without following a link, and reads it when it is the user's alone. A save also locks a
//!   file, reads what is there, writes another file, flushes it, renames it and flushes the folder. It makes no name from a key
//!   and has no checksum. The bare way is that of a program that is alone, trusts the folder and cares for power losses
//!   only: `std::fs::read`; and write, flush, rename, flush.
//! - **Redis**, **PostgreSQL**: the plain way sends the same commands by `redis` and `tokio-postgres`, over one connection.
//! - **memory**, **keyring** (feature `keyring`): there is nothing to compare with. The keyring is one in memory: what is
//!   measured is the store, and the files that it keeps beside.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use grantflow_store::deadpool_postgres::tokio_postgres::types::{ToSql, Type};
use grantflow_store::deadpool_postgres::tokio_postgres::{self, NoTls};
use grantflow_store::grantflow::crypto::{SealingKey, SealingKeys};
use grantflow_store::grantflow::store::{RecordKey, Stored};
use grantflow_store::grantflow::{Client, Issuer};
use grantflow_store::{FileStore, MemoryStore, PostgresStore, RedisStore, Sealed, Store, redis};
#[cfg(feature = "keyring")]
use grantflow_store::{KeyringStore, keyring_core::mock};
use grantflow_tests::postgres_server::PostgresServer;
use grantflow_tests::redis_server::RedisServer;

/// What a grant with an ID token and two access tokens has.
const SIZE: usize = 4096;
const ROUNDS: usize = 60;
const EACH: usize = 20;
const BAR: f64 = 1.3;
/// The bar of the load of a sealed file: reading one takes 12 us, and decrypting it some 4, whichever program does it.
const SEALED_FILE: f64 = 1.55;
/// A run on a busy machine is this much off.
const TOLERANCE: f64 = 1.15;

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

/// One way to load, and to save the version after this one.
trait Way {
    fn load(&mut self);
    fn save(&mut self, version: u64);
}

struct Ours<S>(S, RecordKey);

impl<S: Store> Way for Ours<S> {
    fn load(&mut self) {
        assert!(self.0.load(&self.1).unwrap().is_some());
    }
    fn save(&mut self, version: u64) {
        assert!(self.0.save(&self.1, Some(version), &Stored::new(version + 1, vec![b'x'; SIZE])).unwrap());
    }
}

fn ours<S: Store>(store: S) -> Ours<S> {
    assert!(store.save(&key(), None, &Stored::new(1, vec![b'x'; SIZE])).unwrap());
    Ours(store, key())
}

type Ways<'a> = Vec<(&'a str, &'a mut dyn Way)>;

/// Medians of a load and of a save, of all ways in turn: whatever disturbs disturbs all.
fn measure(ways: &mut [(&str, &mut dyn Way)]) -> Vec<(f64, f64)> {
    let mut times: Vec<(Vec<f64>, Vec<f64>)> = ways.iter().map(|_| Default::default()).collect();
    let mut version = 1;
    for _ in 0..ROUNDS {
        for ((_, way), (loads, saves)) in ways.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (0..EACH).for_each(|_| way.load());
            loads.push(per_call(start));
            let start = Instant::now();
            (0..EACH as u64).for_each(|i| way.save(version + i));
            saves.push(per_call(start));
        }
        version += EACH as u64;
    }
    times.into_iter().map(|(loads, saves)| (median(loads), median(saves))).collect()
}

fn per_call(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / EACH as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints the ways, of which the first is the plain client, and says whether the others keep the bar.
fn compare(engine: &str, mut ways: Ways<'_>) -> bool {
    let times = measure(&mut ways);
    let (load, save) = times[0];
    ways.iter().zip(&times).fold(true, |good, ((name, _), (its_load, its_save))| {
        let (loads, saves) = (its_load / load, its_save / save);
        println!("{engine:9} {name:8} load {its_load:9.1} us ({loads:.2} x)   save {its_save:9.1} us ({saves:.2} x)");
        let bar = if (engine, *name) == ("file", "sealed") { SEALED_FILE } else { BAR };
        good && loads <= bar * TOLERANCE && saves <= BAR * TOLERANCE
    })
}

fn sealing() -> SealingKeys {
    SealingKeys::new(SealingKey::new("a key", &(0..32).collect::<Vec<u8>>()).unwrap())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let named = |engine: &str| args.iter().all(|arg| arg.starts_with('-')) || args.iter().any(|arg| arg == engine);
    let mut good = true;
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str| FileStore::new(folder.path().join(name));
    if named("file") {
        let (mut plain, mut bare) =
            (PlainFile::new(folder.path().join("c")), BareFile(PlainFile::new(folder.path().join("d")).0));
        let (mut file, mut sealed) = (ours(files("a")), ours(Sealed::new(files("b"), sealing())));
        let ways: Ways<'_> =
            vec![("plain", &mut plain), ("store", &mut file), ("sealed", &mut sealed), ("bare", &mut bare)];
        good &= compare("file", ways);
    }
    if let Some(server) = named("redis").then(RedisServer::start).flatten() {
        let store = |name: &str| RedisStore::new(&server.address()).unwrap().prefix(name);
        let mut plain = PlainRedis::new(&server.address());
        let (mut redis, mut sealed) = (ours(store("a")), ours(Sealed::new(store("b"), sealing())));
        good &= compare("redis", vec![("plain", &mut plain), ("store", &mut redis), ("sealed", &mut sealed)]);
    }
    if let Some(server) = named("postgres").then(PostgresServer::start).flatten() {
        let store = |name: &str| {
            let store = PostgresStore::new(&server.address()).unwrap().table(name);
            store.create_table().unwrap();
            store
        };
        store("plain");
        let mut plain = PlainPostgres::new(&server.address());
        let (mut postgres, mut sealed) = (ours(store("a")), ours(Sealed::new(store("b"), sealing())));
        good &= compare("postgres", vec![("plain", &mut plain), ("store", &mut postgres), ("sealed", &mut sealed)]);
    }
    if named("memory") {
        let (mut memory, mut sealed) = (ours(MemoryStore::new()), ours(Sealed::new(MemoryStore::new(), sealing())));
        compare("memory", vec![("store", &mut memory), ("sealed", &mut sealed)]);
    }
    #[cfg(feature = "keyring")]
    if named("keyring") {
        let store = |name| KeyringStore::with_entries("bench", files(name), mock::Store::new().unwrap());
        let (mut keyring, mut sealed) = (ours(store("e")), ours(Sealed::new(store("f"), sealing())));
        compare("keyring", vec![("store", &mut keyring), ("sealed", &mut sealed)]);
    }
    if good || !std::env::args().any(|arg| arg == "--check") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a careful program does with files.
struct PlainFile(PathBuf);

impl PlainFile {
    fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        write(&folder, &folder.join("new"));
        Self(folder)
    }

    fn check(&self) {
        let user = rustix::process::geteuid().as_raw();
        for folder in self.0.ancestors() {
            let found = std::fs::symlink_metadata(folder).unwrap();
            assert!([0, user].contains(&found.uid()) && (found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0));
        }
    }
}

impl Way for PlainFile {
    fn load(&mut self) {
        self.check();
        let mut file = open(OpenOptions::new().read(true), &self.0.join("grant"));
        let size = file.metadata().map(|found| usize::try_from(found.len()).unwrap()).unwrap();
        let mut content = Vec::with_capacity(size + 1);
        file.read_to_end(&mut content).unwrap();
        assert!(content.len() >= SIZE);
    }
    fn save(&mut self, _: u64) {
        let lock = open(OpenOptions::new().read(true).write(true).create(true), &self.0.join("lock"));
        lock.try_lock().unwrap();
        self.load();
        let new = self.0.join("new");
        let _ = std::fs::remove_file(&new);
        write(&self.0, &new);
        lock.unlock().unwrap();
    }
}

/// Opens a file that is the user's alone, without following a link.
fn open(options: &mut OpenOptions, path: &Path) -> File {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path).unwrap();
    let found = file.metadata().unwrap();
    let user = rustix::process::geteuid().as_raw();
    assert!(found.is_file() && found.uid() == user && found.mode() & 0o077 == 0 && found.nlink() == 1);
    file
}

/// Writes `new` and puts it in the place of the grant, for good.
fn write(folder: &Path, new: &Path) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new).unwrap();
    file.write_all(&[b'x'; SIZE]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    std::fs::rename(new, folder.join("grant")).unwrap();
    flush(folder);
}

/// What a program does that is alone.
struct BareFile(PathBuf);

impl Way for BareFile {
    fn load(&mut self) {
        assert!(std::fs::read(self.0.join("grant")).unwrap().len() >= SIZE);
    }
    fn save(&mut self, _: u64) {
        write(&self.0, &self.0.join("new"));
    }
}

fn flush(folder: &Path) {
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).unwrap();
}

struct PlainRedis(redis::Connection);

impl PlainRedis {
    fn new(address: &str) -> Self {
        let connection = redis::Client::open(address).unwrap().get_connection().unwrap();
        let mut way = Self(connection);
        redis::cmd("HSET").arg(KEY).arg("version").arg(1).arg("value").arg(vec![b'x'; SIZE]).exec(&mut way.0).unwrap();
        way
    }
}

/// As long as the names of grants are.
const KEY: &str = "plain:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl Way for PlainRedis {
    fn load(&mut self) {
        let found: (Option<String>, Option<Vec<u8>>) =
            redis::cmd("HMGET").arg(KEY).arg("version").arg("value").query(&mut self.0).unwrap();
        assert!(found.1.is_some());
    }
    fn save(&mut self, version: u64) {
        const SAVE: &str = "
local found = redis.call('HMGET', KEYS[1], 'version', 'value')
local same = found[1] == ARGV[1] or (ARGV[1] == '' and redis.call('EXISTS', KEYS[1]) == 0)
if same then redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3]) end
return (same or (ARGV[4] == 'again' and found[1] == ARGV[2] and found[2] == ARGV[3])) and 1 or 0";
        let mut command = redis::cmd("EVAL");
        command.arg(SAVE).arg(1).arg(KEY).arg(version).arg(version + 1).arg(vec![b'x'; SIZE]).arg("");
        assert!(command.query::<bool>(&mut self.0).unwrap());
    }
}

struct PlainPostgres(tokio::runtime::Runtime, tokio_postgres::Client);

impl PlainPostgres {
    fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
            tokio::spawn(connection);
            let insert = "INSERT INTO plain (key, version, value, issuer, client_id, label) \
                          VALUES ($1, 1, $2, 'https://as.example', 'app', 'alice')";
            let value = vec![b'x'; SIZE];
            client.execute_typed(insert, &[(&KEY, Type::TEXT), (&value, Type::BYTEA)]).await.unwrap();
            client
        });
        Self(runtime, client)
    }

    fn ask(&self, statement: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) {
        let asking = self.0.block_on(async {
            tokio::time::timeout(Duration::from_secs(3), self.1.query_typed(statement, parameters)).await
        });
        assert_eq!(asking.unwrap().unwrap().len(), 1);
    }
}

impl Way for PlainPostgres {
    fn load(&mut self) {
        let load = "SELECT version, CASE WHEN octet_length(value) <= 262144 THEN value END, sub, sid \
                    FROM plain WHERE key = $1";
        self.ask(load, &[(&KEY, Type::TEXT)]);
    }
    fn save(&mut self, version: u64) {
        let save = "UPDATE plain SET version = $2, value = $3, sub = $4, sid = $5 WHERE key = $1 AND version = $6 \
                    AND set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) <> '' RETURNING 1";
        let (value, none) = (vec![b'x'; SIZE], None::<String>);
        let (old, new) = (i64::try_from(version).unwrap(), i64::try_from(version + 1).unwrap());
        self.ask(
            save,
            &[
                (&KEY, Type::TEXT),
                (&new, Type::INT8),
                (&value, Type::BYTEA),
                (&none, Type::TEXT),
                (&none, Type::TEXT),
                (&old, Type::INT8),
            ],
        );
    }
}
