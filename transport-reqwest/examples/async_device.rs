//! Signs in on a machine without a browser (RFC 8628): shows a code, also as a QR code, which a person enters on
//! another device. Without arguments everything happens on this machine.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::{Client, DeviceCode, Discovery, Error, InstalledApp, Issuer, ServerMetadata, Token};
use grantflow_tests::command::{DeviceArgs, Outcome, run_async, show};
use grantflow_tests::{Front, Place, Server, person};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run_async(DeviceArgs::HELP, DeviceArgs::parse, device).await
}

async fn device(args: DeviceArgs) -> Outcome {
    let transport = Transport::new()?;
    if args.client_id.is_none() {
        return pretend(&transport).await;
    }
    let server = match &args.issuer {
        Some(issuer) => transport.run(Discovery::new(&Issuer::new(issuer.as_str())?)).await?,
        None => ServerMetadata::google(),
    };
    let app = InstalledApp::new(&server, &args.client(&server)).scopes(args.scopes.join(" "));
    show(&sign_in(&transport, app, |_| {}).await?, transport.now().wall);
    Ok(())
}

/// A server that may be asked once a second, and a person who takes their time.
async fn pretend(transport: &Transport) -> Outcome {
    let front = Front::start(Server::demo().with(|settings| settings.device_interval = Some(1)))?;
    println!("A pretend server runs at {}", front.issuer());
    let app = InstalledApp::new(&front.metadata(), &Client::new("demo")).scopes("openid email read");
    let person = |code: &DeviceCode| {
        let (address, user_code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(1500));
            println!("A pretend person opens {address} and enters {user_code}");
            person::enter_code(&address, &user_code)
        });
    };
    show(&sign_in(transport, app, person).await?, transport.now().wall);
    println!("The server was asked {} times", front.server().seen_at(Place::Token).len());
    Ok(())
}

/// Shows the code and how much time is left, until the person has decided.
async fn sign_in(
    transport: &Transport,
    app: InstalledApp,
    person: impl Fn(&DeviceCode) + Send + Sync + 'static,
) -> Result<Token, Error> {
    let shown = Arc::new(OnceLock::new());
    let ends = shown.clone();
    let app = app.show_code(move |code| {
        show_code(code);
        person(code);
        ends.get_or_init(|| code.expires_at());
    });
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut signing = pin!(transport.sign_in(&app));
    loop {
        tokio::select! {
            token = &mut signing => return token,
            _ = second.tick() => {}
        }
        if let Some(end) = shown.get().filter(|_| stdout().is_terminal()) {
            print!("{:4} s left\r", end.since(transport.now().wall).as_secs());
            let _ = stdout().flush();
        }
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
