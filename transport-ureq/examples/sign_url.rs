//! Signs a URL by which anybody may read one object of Cloud Storage for a while (version 4): with a key, with the key that IAM
//! keeps, or as the account that this machine runs as. Without arguments everything happens on this machine.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use grantflow_tests::command::{Args, Outcome, run};
use grantflow_tests::google::{self, Local, Metadata};
use grantflow_tests::server::Wire;
use grantflow_tests::{Google, front};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::google::{GoogleCredential, IamSigner, MetadataServer, ServiceAccount};
use grantflow_ureq::grantflow::{Error, Timestamp};
use http::{Request, Response};
use sha2::{Digest as _, Sha256};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, Body, SendBody};

const HELP: &str = "\
Usage:
  sign_url                               signs in all three ways at a pretend Google
  sign_url BUCKET OBJECT --key FILE      with the key file of a service account; no request is made
  sign_url BUCKET OBJECT --iam EMAIL     with the key that Google keeps for this account, on which your default credentials
                                         have the role roles/iam.serviceAccountTokenCreator
  sign_url BUCKET OBJECT --metadata      with the key of the account that this machine runs as, which has that role on itself
Options:
  --seconds N   how long the URL is good for: an hour unless told, and a week at the most
  --help        this text";
const HOST: &str = "storage.googleapis.com";

struct Parsed {
    object: Option<(String, String)>,
    by: By,
    seconds: u32,
}

enum By {
    Key(String),
    Iam(String),
    Metadata,
}

fn main() -> ExitCode {
    run(HELP, parse, |args| match &args.object {
        Some((bucket, object)) => {
            let transport = Transport::new()?;
            let account = match &args.by {
                By::Key(file) => transport.run(ServiceAccount::read(file))?,
                By::Iam(email) => by_iam(transport.google_search()?.credential, email)?,
                By::Metadata => of_this_machine(&transport)?,
            };
            println!("{}", sign(&transport, &account, bucket, object, args.seconds)?);
            Ok(())
        }
        None => pretend(args.seconds),
    })
}

fn parse(args: &mut Args) -> Result<Parsed, String> {
    let (key, iam, seconds) = (args.value("--key")?, args.value("--iam")?, args.value("--seconds")?);
    let seconds = seconds.map_or(Ok(3600), |text| text.parse());
    let seconds = seconds.ok().filter(|it| (1..=604_800).contains(it)).ok_or("--seconds is from 1 to 604800")?;
    let by = match (key, iam, args.flag("--metadata")) {
        (Some(file), None, false) => Some(By::Key(file)),
        (None, Some(email), false) => Some(By::Iam(email)),
        (None, None, true) => Some(By::Metadata),
        _ => None,
    };
    match (args.unnamed(), args.unnamed(), by) {
        (Some(bucket), Some(object), Some(by)) => Ok(Parsed { object: Some((bucket, object)), by, seconds }),
        (None, None, None) => Ok(Parsed { object: None, by: By::Metadata, seconds }),
        _ => Err("Give a bucket, an object, and one of --key, --iam and --metadata".into()),
    }
}

/// The account of this address, for whose signatures the credential may ask IAM.
fn by_iam(credential: GoogleCredential, email: &str) -> Result<ServiceAccount, Error> {
    Ok(ServiceAccount::with_signer(email, IamSigner::new(credential, email)?))
}

/// The account that this machine runs as.
fn of_this_machine(transport: &Transport) -> Result<ServiceAccount, Error> {
    let email = transport.run(MetadataServer::new().email()?)?;
    Ok(ServiceAccount::with_signer(&email, IamSigner::new(MetadataServer::new(), &email)?))
}

/// The URL. It is the same work whoever has the key.
fn sign(
    transport: &Transport,
    account: &ServiceAccount,
    bucket: &str,
    object: &str,
    seconds: u32,
) -> Result<String, Error> {
    let now: Timestamp = transport.now().wall;
    let time: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let scope = format!("{}/auto/storage/goog4_request", &time[..8]);
    let credential = escaped(&format!("{}/{scope}", account.email()), "");
    let path = format!("/{}/{}", escaped(bucket, ""), escaped(object, "/"));
    // Sorted by name.
    let query = format!(
        "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={credential}&X-Goog-Date={time}\
         &X-Goog-Expires={seconds}&X-Goog-SignedHeaders=host"
    );
    let request = format!("GET\n{path}\n{query}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD");
    let text = format!("GOOG4-RSA-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let signature = transport.run(account.sign_blob(text.as_bytes()))?;
    Ok(format!("https://{HOST}{path}?{query}&X-Goog-Signature={}", hex(&signature)))
}

/// Percent-encoded, but for what is unreserved (RFC 3986, section 2.3) and these.
fn escaped(text: &str, kept: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs in all three ways, and reads the object by each URL.
fn pretend(seconds: u32) -> Outcome {
    let mut demo = Google::demo().local(Local::Server(Metadata::new(google::SERVICE_ACCOUNT)));
    demo.impersonators = vec![(google::ALICE.into(), google::SERVICE_ACCOUNT.into())];
    let google = Pretend(Arc::new(Mutex::new(demo)));
    let agent = Agent::config_builder().middleware(google).http_status_as_error(false).build();
    let transport = Transport::builder().http(agent.clone()).build()?;
    let user = GoogleCredential::from_json_of_any_type(google::authorized_user_json().to_string())?;
    for (how, account) in [
        ("with a key", ServiceAccount::from_json(google::service_account_json().to_string())?),
        ("with the key that IAM keeps", by_iam(user, google::SERVICE_ACCOUNT)?),
        ("as the account of this machine", of_this_machine(&transport)?),
    ] {
        let url = sign(&transport, &account, "bucket", "a folder/hello.txt", seconds)?;
        println!("Signed {how}: {url}");
        let mut response = Agent::from(agent.clone()).get(&url).call()?;
        let (status, body) = (response.status(), response.body_mut().read_to_string()?);
        println!("  it is answered {}: {body}", status.as_u16());
        let mut other = Agent::from(agent.clone()).get(url.replace("hello", "other")).call()?;
        println!("  for another object {}: {}", other.status().as_u16(), other.body_mut().read_to_string()?);
    }
    Ok(())
}

/// Google, in this process.
#[derive(Clone)]
struct Pretend(Arc<Mutex<Google>>);

impl Middleware for Pretend {
    fn handle(&self, request: Request<SendBody>, _: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        let (head, body) = request.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        let mut google = self.0.lock().map_err(|_| std::io::Error::other("the pretend Google is gone"))?;
        match google.answer(front::wall_clock(), &Request::from_parts(head, bytes)).wire {
            Wire::Whole(response) => Ok(response.map(|body| Body::builder().data(body))),
            _ => Err(std::io::Error::other("no answer").into()),
        }
    }
}
