//! Signs in on a machine without a browser (RFC 8628): shows a code, also as a QR code, which a person enters on
//! another device. Without arguments everything happens on this machine.

mod common;

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use common::{Args, Outcome, show};
use grantflow_tests::{Front, Place, Server, person};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::{
    Client, ClientAuthentication, DeviceCode, Discovery, Error, InstalledApp, Issuer, Secret, ServerMetadata,
    Timestamp, Token,
};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

const HELP: &str = "\
Usage:
  device                                       at a pretend server on this machine, with a pretend person
  device --google --client-id ID --client-secret S --scope S
                                               at Google, as a client of the kind TVs and Limited Input devices
  device --issuer URL --client-id ID [--client-secret S] [--scope S]
                                               at any server that publishes metadata
Options:
  --scope S    what to ask for; may be given several times
  --help       this text";

fn main() -> ExitCode {
    common::run(HELP, Device::parse, device)
}

fn device(args: Device) -> Outcome {
    let transport = Transport::new()?;
    let Some(id) = &args.client_id else { return pretend(&transport) };
    let (server, client) = match &args.issuer {
        Some(issuer) => {
            let server = transport.run(Discovery::new(&Issuer::new(issuer.as_str())?))?;
            let client = common::client(&server, id, args.client_secret.as_ref());
            (server, client)
        }
        // Google takes the secret of a device in the body.
        None => {
            let secret =
                args.client_secret.map_or_else(ClientAuthentication::none, ClientAuthentication::client_secret_post);
            (ServerMetadata::google(), Client::new(id.as_str()).authentication(secret))
        }
    };
    let app = InstalledApp::new(&server, &client).scopes(args.scopes.join(" "));
    show(&transport, &sign_in(&transport, app, |_| {})?);
    Ok(())
}

/// A server that may be asked once a second, and a person who takes their time.
fn pretend(transport: &Transport) -> Outcome {
    let front = Front::start(Server::demo().with(|settings| settings.device_interval = Some(1)))?;
    println!("A pretend server runs at {}", front.issuer());
    let app = InstalledApp::new(&front.metadata(), &Client::new("demo")).scopes("openid email read");
    let token = sign_in(transport, app, |code| {
        let (address, user_code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(1500));
            println!("A pretend person opens {address} and enters {user_code}");
            person::enter_code(&address, &user_code)
        });
    })?;
    show(transport, &token);
    println!("The server was asked {} times", front.server().seen_at(Place::Token).len());
    Ok(())
}

/// Shows the code and how much time is left, until the person has decided.
fn sign_in(
    transport: &Transport,
    app: InstalledApp,
    person: impl Fn(&DeviceCode) + Send + Sync + 'static,
) -> Result<Token, Error> {
    let (shown, codes) = channel();
    let app = app.show_code(move |code| {
        show_code(code);
        person(code);
        // Nobody listens where nothing is counted.
        let _ = shown.send(code.expires_at());
    });
    thread::scope(|scope| {
        if stdout().is_terminal() {
            scope.spawn(move || count_down(transport, &codes));
        }
        let token = transport.sign_in(&app);
        // With the sender in it: the counting ends.
        drop(app);
        token
    })
}

fn count_down(transport: &Transport, codes: &Receiver<Timestamp>) {
    let Ok(end) = codes.recv() else { return };
    while codes.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        print!("{:4} s left\r", end.since(transport.now().wall).as_secs());
        let _ = stdout().flush();
    }
}

/// The code, to read and to scan. For the scanner the address holds the code, if the server has such an address; the
/// person compares it then.
fn show_code(code: &DeviceCode) {
    let address = code.verification_uri_complete().unwrap_or(code.verification_uri());
    if let Ok(qr) = QrCode::new(address) {
        // As most terminals are: light on dark.
        let (dark, light) = (Dense1x2::Light, Dense1x2::Dark);
        println!("{}", qr.render::<Dense1x2>().dark_color(dark).light_color(light).build());
    }
    println!("On any device, open {}\nand enter this code: {}", code.verification_uri(), code.user_code());
    println!("The code ends at {}", code.expires_at());
}

struct Device {
    issuer: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
}

impl Device {
    fn parse(args: &mut Args) -> Result<Self, String> {
        let (pretend, google) = (args.is_empty(), args.flag("--google"));
        let parsed = Self {
            issuer: args.value("--issuer")?,
            client_id: args.value("--client-id")?,
            client_secret: args.value("--client-secret")?.map(Into::into),
            scopes: args.values("--scope")?,
        };
        match (google, &parsed.issuer, &parsed.client_id) {
            (true, None, Some(_)) if parsed.client_secret.is_none() || parsed.scopes.is_empty() => {
                Err("Google needs --client-secret, and a --scope such as email".into())
            }
            (true, None, Some(_)) | (false, Some(_), Some(_)) => Ok(parsed),
            (false, None, None) if pretend => Ok(parsed),
            _ => Err("Give --client-id and either --google or --issuer, or nothing".into()),
        }
    }
}
