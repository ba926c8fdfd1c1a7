//! Grants in PostgreSQL: the statements, and the meaning of the server's errors. Both stores work on these.

mod blocking;
mod on_tokio;
mod statements;

use std::error::Error as _;
use std::io;
use std::net::IpAddr;

use deadpool_postgres::tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use deadpool_postgres::tokio_postgres::{Config, Error as PgError};
use deadpool_postgres::{HookError, PoolError};
use grantflow::machine::FailureKind;
use grantflow::{Error, Failure};

pub use blocking::PostgresStore;
pub use on_tokio::AsyncPostgresStore;

/// Reads an address. Without TLS, it must be one that needs none, or say that it wants none.
fn config(address: &str, tls: bool) -> Result<Config, Error> {
    // What is wrong with it may hold the password: it is not shown.
    let such = "such as postgres://user:password@host/database";
    let wrong = |_| Error::new(grantflow::ErrorKind::Config, format!("this is no address of PostgreSQL, {such}"));
    let mut config: Config = address.parse().map_err(wrong)?;
    let near = |host: &Host| match host {
        Host::Tcp(host) => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let near = config.get_hosts().iter().all(near) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    match config.get_ssl_mode() {
        SslMode::Prefer if tls && !near => drop(config.ssl_mode(SslMode::Require)),
        SslMode::Prefer if !near => {
            let why = "grants would go to PostgreSQL in the clear: use with_tls, or say sslmode=disable in the address";
            return Err(Error::new(grantflow::ErrorKind::Config, why));
        }
        _ => {}
    }
    if config.get_application_name().is_none() {
        config.application_name("grantflow");
    }
    // A replica has what was there a while ago, and takes no lease.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    Ok(config)
}

/// Why a statement has no answer.
#[derive(Debug)]
enum Trouble {
    /// No connection came in time.
    NoConnection,
    /// No answer came in time.
    NoAnswer,
    /// No connection came about.
    Connecting(PgError),
    /// The statement failed, or the connection broke under it.
    Asking(PgError),
    /// The pool does not give any.
    Pool(String),
}

impl Trouble {
    fn of_pool(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(_) => Self::NoConnection,
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => Self::Connecting(error),
            error => Self::Pool(error.to_string()),
        }
    }

    /// Whether the same may well succeed in a moment, over another connection.
    fn is_transient(&self) -> bool {
        match self {
            Self::NoConnection | Self::NoAnswer => true,
            Self::Pool(_) => false,
            Self::Connecting(error) | Self::Asking(error) => match error.code() {
                Some(code) => passes(code.code()),
                None => is_broken(error),
            },
        }
    }

    /// What PostgreSQL says of an error may hold what was sent: only its code is told. With `again`, an earlier try may
    /// have been carried out.
    fn failure(&self, again: bool) -> Failure {
        let (kind, what) = match self {
            Self::NoConnection => (FailureKind::Timeout, "no connection to PostgreSQL in time".to_owned()),
            Self::NoAnswer => (FailureKind::Timeout, "PostgreSQL did not answer in time".to_owned()),
            Self::Pool(error) => (FailureKind::Store, format!("the pool of connections to PostgreSQL: {error}")),
            Self::Connecting(error) | Self::Asking(error) => match error.code() {
                Some(code) if passes(code.code()) => (FailureKind::Connect, refused(code.code())),
                Some(code) => (FailureKind::Store, refused(code.code())),
                None if is_broken(error) => (FailureKind::Connect, format!("PostgreSQL: {}", said(error))),
                None if is_tls(error) => (FailureKind::Tls, format!("PostgreSQL: {}", said(error))),
                None => (FailureKind::Store, format!("PostgreSQL: {error}")),
            },
        };
        if again || matches!(self, Self::NoAnswer | Self::Asking(_)) {
            Failure::maybe_sent(kind, what)
        } else {
            Failure::not_sent(kind, what)
        }
    }
}

/// The classes and codes of errors that are over in a moment (PostgreSQL's documentation, appendix A).
fn passes(code: &str) -> bool {
    const CODES: [&str; 8] = [
        "25006", // a transaction that may only read: what has become a replica stays one, another connection leads away
        "40001", // serialization
        "40P01", // deadlock
        "53300", // too many connections
        "55P03", // a lock
        "57P01", // it is being shut down
        "57P02", // it has crashed
        "57P03", // it is just starting
    ];
    code.starts_with("08") || CODES.contains(&code)
}

/// A refusal, with what to do about those that nearly everybody meets.
fn refused(code: &str) -> String {
    let hint = match code {
        "42P01" => ": the table is not there; make it by `create_table`, or by the SQL in the documentation",
        "42703" | "42804" | "42P10" => ": the table is not the one in the documentation",
        "42501" => ": the user has no right to it",
        "28000" | "28P01" => ": the user or the password is wrong",
        "3D000" => ": the database is not there",
        "25006" => ": this one is a replica",
        "57014" => ": it took longer than its statement_timeout",
        _ => "",
    };
    format!("PostgreSQL refuses with SQLSTATE {code}{hint}")
}

fn is_broken(error: &PgError) -> bool {
    let by_network = error.source().is_some_and(|cause| cause.is::<io::Error>());
    error.is_closed() || (by_network && !is_tls(error)) || error.to_string().starts_with("timeout")
}

fn is_tls(error: &PgError) -> bool {
    error.to_string().contains("TLS")
}

/// The error and its cause, which is of the network and holds nothing that was sent.
fn said(error: &PgError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_only_near_addresses_are_taken_unless_they_ask_for_it() {
        for address in [
            "postgres://app:pw@127.0.0.1:5433/db",
            "postgres://app@localhost/db",
            "postgres://app@%2Frun%2Fpostgresql/db",
            "host=::1 user=app",
            "postgres://app:pw@db.example/db?sslmode=disable",
        ] {
            assert!(config(address, false).is_ok(), "{address}");
        }
        for address in [
            "postgres://app:canary@db.example/db",
            "postgres://app:canary@127.0.0.1,db.example/db",
            "host=localhost hostaddr=192.0.2.1 password=canary",
            "redis://app:canary@localhost",
            "postgres://app:canary@localhost/db?sslmode=canary",
        ] {
            let error = config(address, false).unwrap_err();
            assert_eq!(error.kind(), grantflow::ErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        let far = config("postgres://app@db.example/db", true).unwrap();
        assert_eq!(far.get_ssl_mode(), SslMode::Require, "a server without TLS is not taken for one with it");
    }
}
