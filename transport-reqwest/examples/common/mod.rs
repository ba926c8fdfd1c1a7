//! What the examples share: their arguments, how they show a token, and how they end.
#![allow(dead_code, reason = "each example uses its own part of this")]

use std::error::Error;
use std::process::ExitCode;

use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::{Client, ClientAuthentication, Secret, ServerMetadata, Token};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Reads the arguments, or says why the example ends here.
pub(crate) fn arguments<A>(help: &str, parse: impl FnOnce(&mut Args) -> Result<A, String>) -> Result<A, ExitCode> {
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

/// Runs the example with what was read of the arguments.
pub(crate) async fn run<A>(arguments: Result<A, ExitCode>, example: impl AsyncFnOnce(A) -> Outcome) -> ExitCode {
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match example(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", whole(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with whatever led to it.
fn whole(error: &dyn Error) -> String {
    let mut text = format!("Error: {error}");
    let mut source = error.source();
    while let Some(inner) = source {
        if !text.contains(&inner.to_string()) {
            text.push_str(&format!("\n  because: {inner}"));
        }
        source = inner.source();
    }
    text
}

/// The arguments that were not taken yet.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is there, which has no value.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// The value behind this one.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(None) };
        if self.0.get(at + 1).is_none_or(|value| value.starts_with("--")) {
            return Err(format!("{name} needs a value"));
        }
        self.0.remove(at);
        Ok(Some(self.0.remove(at)))
    }

    /// The values of one that may be given several times.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>, String> {
        std::iter::from_fn(|| self.value(name).transpose()).collect()
    }
}

/// The client, with its secret in the way that the server takes it.
pub(crate) fn client(server: &ServerMetadata, id: &str, secret: Option<&Secret>) -> Client {
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
pub(crate) fn show(transport: &Transport, token: &Token) {
    println!("A token is here, for the scopes: {}", token.scopes().as_str());
    match token.expires_at() {
        Some(end) => println!("  it ends at {end}, in {} s", end.since(transport.now().wall).as_secs()),
        None => println!("  the server does not say when it ends"),
    }
    if token.refresh_token().is_some() {
        println!("  it has a refresh token");
    }
    if let Some(id_token) = token.id_token() {
        println!("  the user is {} of {}", id_token.subject(), id_token.issuer());
    }
}
