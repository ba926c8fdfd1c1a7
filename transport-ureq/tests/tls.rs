//! HTTP calls over TLS. The root's private key was thrown away when it had signed. Only on Linux: other platforms' verifiers do not take certificates that are
//! good for a hundred years.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, call, once, read_request, whole};
use grantflow_ureq::grantflow::machine::{FailureKind, Reach};
use grantflow_ureq::grantflow::{Call, Effect, Error, ErrorKind, Failure, Reply};
use grantflow_ureq::{Cancel, Limit, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

const ROOT: &[u8] = include_bytes!("tls/root.pem");

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// A server that ends what comes with TLS, as `localhost`.
fn server(serve: impl Fn(Tls) + Send + Sync + 'static) -> SocketAddr {
    let chain = CertificateDer::from_pem_slice(include_bytes!("tls/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let config = Arc::new(config);
    Server::accept(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        serve(StreamOwned::new(connection, stream));
    })
}

fn answering() -> SocketAddr {
    server(|mut stream| {
        let request = read_request(&mut stream);
        if request.is_empty() {
            return;
        }
        assert!(request.ends_with("secret=canary"), "{request}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    })
}

fn public(host: &str, address: SocketAddr) -> Call {
    call(&format!("https://{host}:{}/token?query=canary", address.port())).with_reach(Reach::Public)
}

fn trusting() -> Transport {
    Transport::builder().root_certificate_pem(ROOT).build().unwrap()
}

fn fetch(transport: &Transport, call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    match transport.run(once(Effect::Http(call))).unwrap() {
        Reply::Http(response) => Ok(response),
        Reply::Failed(failure) => Err(failure),
        reply => panic!("{reply:?}"),
    }
}

#[track_caller]
fn assert_fails(transport: &Transport, call: Call, kind: FailureKind, maybe_sent: bool) {
    let failure = fetch(transport, call).unwrap_err();
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (kind, maybe_sent), "{failure}");
    assert!(!whole(&Error::from(failure)).contains("canary"));
}

#[test]
fn a_root_certificate_of_the_callers_own_is_trusted() {
    assert_eq!(fetch(&trusting(), public("localhost", answering())).unwrap().body(), b"{}");
}

#[cfg(feature = "bundled-roots")]
#[test]
fn bundled_roots_are_trusted_together_with_the_callers_own_and_no_others() {
    let transport = Transport::builder().bundled_roots().root_certificate_pem(ROOT).build().unwrap();
    assert_eq!(fetch(&transport, public("localhost", answering())).unwrap().body(), b"{}");
    let transport = Transport::builder().bundled_roots().build().unwrap();
    assert_fails(&transport, public("localhost", answering()), FailureKind::Tls, false);
}

#[test]
fn nothing_is_sent_to_a_server_that_cannot_prove_its_name() {
    assert_fails(&Transport::new().unwrap(), public("localhost", answering()), FailureKind::Tls, false);
    assert_fails(&trusting(), public("127.0.0.1", answering()), FailureKind::Tls, false);
    let cleartext = Server::accept(|mut stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")));
    assert_fails(&trusting(), public("localhost", cleartext), FailureKind::Tls, false);
    let hung_up = Server::accept(drop);
    assert_fails(&trusting(), public("localhost", hung_up), FailureKind::Connect, false);
}

#[test]
fn an_unknown_authority_is_told_with_what_to_do() {
    let failure = fetch(&Transport::new().unwrap(), public("localhost", answering())).unwrap_err();
    let error = Error::from(failure);
    assert!(error.to_string().contains("`Builder::root_certificate_pem`"), "{error}");
    let failure = fetch(&trusting(), public("127.0.0.1", answering())).unwrap_err();
    assert!(!failure.to_string().contains("root_certificate_pem"), "it is the name that is wrong: {failure}");
}

#[test]
fn a_connection_closed_after_the_request_was_maybe_sent() {
    let address = server(|mut stream| drop(read_request(&mut stream)));
    assert_fails(&trusting(), public("localhost", address), FailureKind::Broken, true);
}

#[test]
fn a_body_without_a_length_ends_only_where_tls_says_so() {
    for (notify, whole) in [(true, true), (false, false)] {
        let address = server(move |mut stream| {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\naccess_token=abc").unwrap();
            if notify {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        });
        let result = fetch(&trusting(), public("localhost", address));
        assert_eq!(result.is_ok(), whole, "{result:?}");
    }
}

#[test]
fn a_silent_server_ends_by_the_connect_timeout_and_was_not_sent_anything() {
    let silent = Server::accept(|mut stream| while !matches!(stream.read(&mut [0; 512]), Ok(0) | Err(_)) {});
    let connect = Duration::from_millis(200);
    let transport = Transport::builder().root_certificate_pem(ROOT).connect_timeout(connect).build().unwrap();
    let start = Instant::now();
    assert_fails(&transport, public("localhost", silent), FailureKind::Timeout, false);
    assert!((connect..Duration::from_secs(2)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn the_time_to_begin_is_kept_however_long_connecting_takes() {
    let (send, seen) = channel();
    let send = Mutex::new(send);
    let address = server(move |mut stream| {
        thread::sleep(Duration::from_millis(300));
        send.lock().unwrap().send(read_request(&mut stream)).unwrap();
    });
    let transport = trusting();
    let moment = transport.now() + Duration::from_millis(150);
    let call = public("localhost", address).with_start_before(moment);
    assert_fails(&transport, call, FailureKind::Timeout, false);
    assert_eq!(seen.recv_timeout(Duration::from_secs(5)).unwrap_or_default(), "");
}

#[test]
fn cancelling_cuts_a_handshake() {
    let silent = Server::accept(|mut stream| while !matches!(stream.read(&mut [0; 512]), Ok(0) | Err(_)) {});
    let cancel = Cancel::new();
    let handle = cancel.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        handle.cancel();
    });
    let start = Instant::now();
    let limit = Limit::new().cancel(&cancel);
    let error = trusting().run_until(once(Effect::Http(public("localhost", silent))), &limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn sessions_are_resumed_from_one_connection_to_the_next() {
    let (send, kinds) = channel();
    let send = Mutex::new(send);
    let address = server(move |mut stream| {
        read_request(&mut stream);
        send.lock().unwrap().send(stream.conn.handshake_kind().unwrap()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let transport = trusting();
    for _ in 0..2 {
        fetch(&transport, public("localhost", address)).unwrap();
    }
    assert_eq!(kinds.recv().unwrap(), HandshakeKind::Full);
    assert_eq!(kinds.recv().unwrap(), HandshakeKind::Resumed);
}
