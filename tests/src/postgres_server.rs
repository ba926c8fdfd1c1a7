//! A real PostgreSQL on a free loopback port, for as long as a test needs it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A PostgreSQL with a database and a user of its own, which writes all it confirms to disk. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    folder: PathBuf,
    programs: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
}

impl PostgresServer {
    /// Starts one; `None`, and a line that says so, if it is not installed (Debian's package `postgresql`).
    ///
    /// # Panics
    ///
    /// If it is installed and does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with settings such as `synchronous_commit=off`.
    ///
    /// # Panics
    ///
    /// If it is installed and does not start.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(programs) = programs() else {
            eprintln!("\n*** postgresql is not installed: NOTHING WAS TESTED AGAINST POSTGRESQL ***\n");
            return None;
        };
        let name = format!("grantflow-postgres-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr()).expect("a port").port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { port, folder, programs, settings, child: None };
        std::fs::create_dir_all(&server.folder).expect("a folder for PostgreSQL");
        if is_root() {
            assert!(done(Command::new("chown").arg("postgres").arg(&server.folder)), "the folder goes to postgres");
        }
        let mut initdb = server.program("initdb");
        initdb
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--pgdata"])
            .arg(&server.folder);
        assert!(done(&mut initdb), "initdb");
        server.begin();
        Some(server)
    }

    /// Its address, such as `postgres://postgres@127.0.0.1:38123/postgres`.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets it crash: what it has not written is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An immediate shutdown: all its processes end at once and write nothing any more.
            signal("-QUIT", &child.id().to_string());
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, with what is on the disk.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn begin(&mut self) {
        self.kill();
        let mut command = self.program("postgres");
        command.arg("-D").arg(&self.folder).args(["-p", &self.port.to_string()]);
        let own = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"];
        for setting in own.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres"));
        let end = Instant::now() + Duration::from_secs(60);
        while self.ask("SELECT 1").is_none() {
            assert!(Instant::now() < end, "postgres did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has it talk TLS too from now on, with a certificate and its key in PEM. `first` stands before what its
    /// `pg_hba.conf` says of who may come.
    ///
    /// # Panics
    ///
    /// If it does not start again.
    pub fn secure(&mut self, certificate: &str, key: &str, first: &str) {
        let own = [("server.crt", certificate.to_owned()), ("server.key", key.to_owned())];
        let rest = std::fs::read_to_string(self.folder.join("pg_hba.conf")).expect("who may come");
        for (name, content) in own.into_iter().chain([("pg_hba.conf", format!("{first}{rest}"))]) {
            let path = self.folder.join(name);
            std::fs::write(&path, content).expect("a file for PostgreSQL");
            assert!(done(Command::new("chmod").arg("600").arg(&path)), "it is its own alone");
            if is_root() {
                assert!(done(Command::new("chown").arg("postgres").arg(&path)), "it goes to postgres");
            }
        }
        self.settings.push("ssl=on".to_owned());
        self.begin();
    }

    /// Stops all its processes in the middle of whatever they do, or lets them go on.
    ///
    /// # Panics
    ///
    /// If a signal cannot be sent.
    pub fn freeze(&self, frozen: bool) {
        let id = self.child.as_ref().expect("it runs").id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its processes");
        for id in children.split_whitespace().chain([&*id.to_string()]) {
            signal(if frozen { "-STOP" } else { "-CONT" }, id);
        }
    }

    /// Runs some SQL as its superuser, and gives the answer without decoration.
    pub fn ask(&self, sql: &str) -> Option<String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", &self.address(), "-c", sql]);
        let output = psql.env("PGCONNECT_TIMEOUT", "5").stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Closes all connections to it, as a network or an idle timeout does.
    pub fn cut(&self) {
        let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        self.ask(all);
    }

    /// It refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(path);
        command
    }
}

/// The address of the database at a port.
pub fn address(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .chain(std::env::split_paths(&path))
        .find(|folder| ["initdb", "postgres"].iter().all(|it| folder.join(it).exists()))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn done(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn signal(signal: &str, id: &str) {
    assert!(done(Command::new("kill").args([signal, id])), "kill {signal} {id}");
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
