//! Signs in on a machine without a browser (RFC 8628): shows a code, also as a QR code, which a person enters on
//! another device. Without arguments everything happens on this machine.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use grantflow_tests::command::{DeviceArgs, Outcome, run, show};
use grantflow_tests::{Front, Place, Server, person};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::{
    Client, DeviceCode, Discovery, Error, InstalledApp, Issuer, ServerMetadata, Timestamp, Token,
};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

fn main() -> ExitCode {
    run(DeviceArgs::HELP, DeviceArgs::parse, device)
}

fn device(args: DeviceArgs) -> Outcome {
    let transport = Transport::new()?;
    if args.client_id.is_none() {
        return pretend(&transport);
    }
    let server = match &args.issuer {
        Some(issuer) => transport.run(Discovery::new(&Issuer::new(issuer.as_str())?))?,
        None => ServerMetadata::google(),
    };
    let app = InstalledApp::new(&server, &args.client(&server)).scopes(args.scopes.join(" "));
    show(&sign_in(&transport, app, |_| {})?, transport.now().wall);
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
    show(&token, transport.now().wall);
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
