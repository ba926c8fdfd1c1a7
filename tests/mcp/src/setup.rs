//! Who asks for access, and how: by what the conformance suite says of its scenario.
//!
//! A program differs in one thing. The suite gives a client and does not say which server it is registered at, so that here the
//! server is the first one that the resource names. A program must not do so: a hostile resource names a server of its own, which
//! would be shown the client's secret, or an assertion by its key. The issuer is known since the client was
//! registered there, and belongs beside the `client_id`:
//!
//! ```no_run
//! use grantflow_ureq::grantflow::resource::ProtectedResource;
//! use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
//!
//! let client = Client::new("my-tool")
//!     .authentication(ClientAuthentication::client_secret_basic("its secret"))
//!     .registered_at(Issuer::new("https://as.example")?);
//! let resource = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client(client);
//! # let _ = resource;
//! # Ok::<(), grantflow_ureq::grantflow::Error>(())
//! ```
//!
//! If the resource then names other servers alone, that client is shown to none of them, and the error says so.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use grantflow_ureq::grantflow::crypto::{Algorithm, SigningKey};
use grantflow_ureq::grantflow::register::ClientMetadata;
use grantflow_ureq::grantflow::resource::{Access, ProtectedResource};
use grantflow_ureq::grantflow::source::Credential;
use grantflow_ureq::grantflow::{
    Client, ClientAuthentication, Cx, Deviation, Deviations, DpopKey, Error, ErrorKind, InstalledApp, Issuer, Now,
    Timestamp, Token, token_type,
};
use grantflow_ureq::grantflow_store::FileStore;
use serde_json::{Value, json};

/// The client's document, as the suite knows it. Nobody reads it.
const DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";

/// The server at this address, and how to get tokens for it. `issuer` says which authorization server it names, for the
/// scenarios whose context has a client without the server that it is registered at. A program is configured with that, and
/// does not ask the resource.
pub fn resource(
    address: &str,
    issuer: impl FnOnce(&ProtectedResource) -> Result<Issuer, Error>,
) -> Result<ProtectedResource, Error> {
    let context: Value =
        env::var("MCP_CONFORMANCE_CONTEXT").ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let scenario = env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let text = |name: &str| context.get(name).and_then(Value::as_str).map(str::to_owned);
    let need =
        |name: &str| text(name).ok_or_else(|| Error::new(ErrorKind::Config, format!("the context has no {name}")));
    let metadata = ClientMetadata::new().client_name("grantflow-mcp");
    let resource = ProtectedResource::mcp(address)?.client_document(DOCUMENT).register(metadata).app(visited);
    let at = |resource: &ProtectedResource| match text("issuer") {
        Some(text) => Issuer::new(text),
        None => issuer(resource),
    };
    let client = |authentication: ClientAuthentication, issuer: Issuer| -> Result<Client, Error> {
        Ok(Client::new(need("client_id")?).authentication(authentication).registered_at(issuer))
    };
    let secret = || Ok::<_, Error>(ClientAuthentication::client_secret_basic(need("client_secret")?));
    Ok(match scenario.trim_start_matches("auth/") {
        "client-credentials-jwt" => {
            let key = SigningKey::from_pem(Algorithm::ES256, &need("private_key_pem")?)?;
            let client = client(ClientAuthentication::private_key_jwt(key), at(&resource)?)?;
            resource.client(client).source(Access::client_credentials)
        }
        "client-credentials-basic" => {
            let client = client(secret()?, at(&resource)?)?;
            resource.client(client).source(Access::client_credentials)
        }
        "enterprise-managed-authorization" => {
            let client = client(secret()?, at(&resource)?)?;
            let (idp, idp_client) = (Issuer::new(need("idp_issuer")?)?, Client::new(need("idp_client_id")?));
            let id_token = fixed(&need("idp_id_token")?)?;
            resource.client(client).source(move |access| {
                Ok(access.identity_assertion(id_token.clone(), token_type::ID_TOKEN, idp.clone(), &idp_client))
            })
        }
        "wif-jwt-bearer" => {
            let client = client(ClientAuthentication::none(), at(&resource)?)?;
            let platform = fixed(&need("valid_jwt")?)?;
            resource.client(client).source(move |access| Ok(access.assertion(platform.clone())))
        }
        "pre-registration" => {
            let client = client(secret()?, at(&resource)?)?;
            resource.client(client)
        }
        "dpop" | "dpop-nonce" => resource.dpop(key()?),
        old if old.starts_with("2025-03-26") => {
            let tolerated = Deviations::TOLERATED.with(Deviation::ResourceAbove).with(Deviation::NoResourceMetadata);
            resource.tolerate(tolerated)
        }
        _ => resource,
    })
}

/// Where grants are kept, if anywhere: a folder.
pub fn store() -> Option<FileStore> {
    env::var_os("MCP_STORE").map(FileStore::new)
}

/// What to call the tool with.
pub fn arguments() -> Value {
    env::var("MCP_ARGUMENTS").ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| json!({}))
}

/// How often to call the tool, once a second or so.
pub fn calls() -> u32 {
    env::var("MCP_CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whether to end the grant afterwards.
pub fn signs_out() -> bool {
    env::var_os("MCP_SIGN_OUT").is_some()
}

fn fixed(token: &str) -> Result<Credential, Error> {
    Ok(Credential::fixed(Token::bearer(token, Timestamp::from_unix(0), None)?))
}

fn key() -> Result<DpopKey, Error> {
    let mut seed = [0; 32];
    let urandom = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    urandom.map_err(|e| Error::new(ErrorKind::Entropy, e.to_string()))?;
    Ok(SigningKey::generate(Algorithm::ES256, &mut Cx::new(Now::default(), seed))?.into())
}

/// Nobody sits in front of this: where a browser would be opened, the address is asked for, and the redirect followed.
fn visited(app: InstalledApp) -> InstalledApp {
    app.open_browser(false).path("/callback").show(|url| {
        let url = url.to_owned();
        std::thread::spawn(move || {
            if let Some(redirect) = get(&url).and_then(|answer| location(&answer)) {
                get(&redirect);
            }
        });
    })
}

/// The head of the answer at an address in cleartext on this machine.
fn get(url: &str) -> Option<String> {
    let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(authority).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn location(answer: &str) -> Option<String> {
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
