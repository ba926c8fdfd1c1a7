//! A person signs in without a browser, on a device of theirs (CIBA): the program asks until they have decided, or is told by the
//! server's ping. At a pretend server on this machine.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use grantflow_tests::command::{Outcome, run, show};
use grantflow_tests::{Front, Place, Server};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::{
    BackchannelAuthentication, BackchannelHeard, Client, ClientAuthentication, Discovery, Issuer, PingReceiver,
    ServerMetadata, Token,
};

const HELP: &str = "\
Usage:
  ciba      has a pretend person sign in twice, at a pretend server on this machine
Options:
  --help    this text";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| sign_in())
}

fn sign_in() -> Outcome {
    // A server that may be asked once a second, and a person who takes as long to decide.
    let front = Front::start(Server::demo().with(|settings| {
        settings.backchannel_interval = Some(1);
        settings.backchannel_delay = 1;
    }))?;
    let transport = Transport::new()?;
    let server = transport.run(Discovery::new(&Issuer::new(front.issuer())?))?;
    let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("batch-secret"));

    let request = BackchannelAuthentication::new(&server, &client)?.login_hint("alice").binding_message("W4SCT");
    let pending = transport.run(request.start())?;
    println!("Alice's phone shows W4SCT, as this screen does");
    let token = transport.run(pending.poll(&server, &client)?)?;
    show(&token, transport.now().wall);

    let before = front.server().seen_at(Place::Token).len();
    let token = with_ping(&transport, &server, &client, &front)?;
    println!("Signed in by a ping: {}", token.scopes());
    println!("The server was asked {} time for that token", front.server().seen_at(Place::Token).len() - before);
    Ok(())
}

/// The client is registered with the address of this listener, behind whatever ends TLS for it.
fn with_ping(
    transport: &Transport,
    server: &ServerMetadata,
    client: &Client,
    front: &Front,
) -> Result<Token, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let token: String = transport.cx()?.random::<16>("ping")?.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = BackchannelAuthentication::new(server, client)?.login_hint("alice").notification_token(token);
    let pending = transport.run(request.start())?;
    let receiver = pending.ping_receiver().ok_or("there was a notification token")?;
    thread::scope(|scope| {
        // The server, which pings when alice has decided.
        scope.spawn(|| {
            while front.ping(address).is_ok_and(|answers| answers.is_empty()) {
                thread::sleep(Duration::from_millis(50));
            }
        });
        listen(&listener, &receiver)
    })?;
    Ok(transport.run(pending.poll(server, client)?.at_once())?)
}

/// Hands the receiver what comes, until it is the ping.
fn listen(listener: &TcpListener, receiver: &PingReceiver) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            heard.extend_from_slice(&buffer[..read]);
            match receiver.hear(&heard) {
                BackchannelHeard::More if read > 0 => {}
                BackchannelHeard::More => break,
                BackchannelHeard::Reply(answer) => {
                    stream.write_all(&answer)?;
                    break;
                }
                BackchannelHeard::Pinged(answer) => return stream.write_all(&answer),
            }
        }
    }
}
