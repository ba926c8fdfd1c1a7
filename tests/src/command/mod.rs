//! What the examples of both adapters share as programs: their arguments, how they show a token, and how they end.

mod default_credentials;
mod device;
mod login;

use std::error::Error;
use std::process::ExitCode;

use grantflow::{Client, ClientAuthentication, Secret, ServerMetadata, Timestamp, Token};

pub use default_credentials::DefaultCredentialsArgs;
pub use device::DeviceArgs;
pub use login::LoginArgs;

/// How an example ends.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Reads the arguments and runs the example with what was read of them.
pub fn run<A>(
    help: &str,
    parse: impl FnOnce(&mut Args) -> Result<A, String>,
    example: impl FnOnce(A) -> Outcome,
) -> ExitCode {
    arguments(help, parse).map_or_else(|code| code, |parsed| end(example(parsed)))
}

/// As [`run`], for an example that is async.
pub async fn run_async<A>(
    help: &str,
    parse: impl FnOnce(&mut Args) -> Result<A, String>,
    example: impl AsyncFnOnce(A) -> Outcome,
) -> ExitCode {
    match arguments(help, parse) {
        Ok(parsed) => end(example(parsed).await),
        Err(code) => code,
    }
}

fn arguments<A>(help: &str, parse: impl FnOnce(&mut Args) -> Result<A, String>) -> Result<A, ExitCode> {
    let mut args = Args(std::env::args().skip(1).collect());
    if args.flag("--help") || args.flag("-h") {
        println!("{help}");
        return Err(ExitCode::SUCCESS);
    }
    let parsed = parse(&mut args).and_then(|parsed| match args.0.first() {
        Some(left) => Err(format!("There is no argument {left}")),
        None => Ok(parsed),
    });
    parsed.map_err(|message| {
        eprintln!("{message}\n\n{help}");
        ExitCode::FAILURE
    })
}

/// Says why an example failed, with whatever led to it.
fn end(outcome: Outcome) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let mut text = format!("Error: {error}");
    let mut source = error.source();
    while let Some(inner) = source {
        if !text.contains(&inner.to_string()) {
            text.push_str(&format!("\n  because: {inner}"));
        }
        source = inner.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// The arguments that were not taken yet.
#[derive(Debug)]
pub struct Args(Vec<String>);

impl Args {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is there, which has no value.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// The value behind this one.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(None) };
        if self.0.get(at + 1).is_none_or(|value| value.starts_with("--")) {
            return Err(format!("{name} needs a value"));
        }
        self.0.remove(at);
        Ok(Some(self.0.remove(at)))
    }

    /// The values of one that may be given several times.
    ///
    /// # Errors
    ///
    /// If one has none.
    pub fn values(&mut self, name: &str) -> Result<Vec<String>, String> {
        std::iter::from_fn(|| self.value(name).transpose()).collect()
    }

    /// The first that has no name, once all that have one are taken.
    pub fn unnamed(&mut self) -> Option<String> {
        let found = self.0.iter().position(|arg| !arg.starts_with("--"));
        found.map(|at| self.0.remove(at))
    }
}

/// The client, with its secret in the way that the server takes it.
pub fn client(server: &ServerMetadata, id: &str, secret: Option<&Secret>) -> Client {
    let client = Client::new(id);
    let methods = server.get("token_endpoint_auth_methods_supported").and_then(|list| list.as_array());
    let knows = |method| methods.is_some_and(|list| list.iter().any(|known| known == method));
    match secret.cloned() {
        None => client,
        Some(secret) if knows("client_secret_post") && !knows("client_secret_basic") => {
            client.authentication(ClientAuthentication::client_secret_post(secret))
        }
        Some(secret) => client.authentication(ClientAuthentication::client_secret_basic(secret)),
    }
}

/// Says what a token is good for. The token itself is not shown.
pub fn show(token: &Token, now: Timestamp) {
    println!("A token is here, for the scopes: {}", token.scopes().as_str());
    match token.expires_at() {
        Some(end) => println!("  it ends at {end}, in {} s", end.since(now).as_secs()),
        None => println!("  the server does not say when it ends"),
    }
    if token.refresh_token().is_some() {
        println!("  it has a refresh token");
    }
    if let Some(end) = token.signs_out_at() {
        println!("  its person signs out on {end}");
    }
    if let Some(id_token) = token.id_token() {
        println!("  the user is {} of {}", id_token.subject(), id_token.issuer());
    }
}
