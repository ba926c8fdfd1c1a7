//! Whom a transport trusts, and on which connections calls go, at a server with a certificate of our own.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{call, run_with};
use grantflow::machine::{FailureKind, Repeat};
use grantflow_reqwest::{Builder, Transport, reqwest};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server for `as.example`, its certificate its own root.
struct Server {
    port: u16,
    pem: String,
    connections: Arc<AtomicUsize>,
    alpn: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    async fn new() -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["as.example".into()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, alpn) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, chosen) = (connections.clone(), alpn.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                *chosen.lock().unwrap() = socket.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while socket.read_buf(&mut request).await.is_ok_and(|n| n > 0) {
                        if request.ends_with(b"grant_type=canary") {
                            request.clear();
                            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                        }
                    }
                });
            }
        });
        Self { port, pem: cert.pem(), connections, alpn }
    }

    fn address(&self, host: &str) -> String {
        format!("https://{host}:{}/token", self.port)
    }

    /// A transport that finds every name at this server.
    fn transport(&self, adjust: impl FnOnce(Builder) -> Builder) -> Transport {
        let http = || {
            let here = ([127, 0, 0, 1], 0).into();
            reqwest::Client::builder()
                .resolve("as.example", here)
                .resolve("other.example", here)
                .tls_danger_accept_invalid_certs(true)
                .no_proxy()
        };
        adjust(Transport::builder().http(http)).build().unwrap()
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_only_if_its_root_is() {
    let server = Server::new().await;
    let trusting = server.transport(|builder| builder.root_certificate_pem(server.pem.as_bytes()));
    for (transport, host, trusted) in [
        (&trusting, "as.example", true),
        (&trusting, "other.example", false),
        (&server.transport(|builder| builder), "as.example", false),
        #[cfg(feature = "bundled-roots")]
        (&server.transport(Builder::bundled_roots), "as.example", false),
        #[cfg(feature = "bundled-roots")]
        (
            &server.transport(|builder| builder.bundled_roots().root_certificate_pem(server.pem.as_bytes())),
            "as.example",
            true,
        ),
    ] {
        match run_with(transport, call(&server.address(host), |call| call)).await {
            Ok(response) => assert!(trusted && response.body() == b"{}"),
            Err(failure) => {
                assert!(!trusted, "{failure}");
                assert_eq!(failure.kind(), FailureKind::Tls);
                assert!(!failure.may_have_been_sent());
                let text = failure.to_string();
                assert!(text.contains("certificate"), "{text}");
                assert_eq!(text.contains("`Builder::root_certificate_pem`"), host == "as.example", "{text}");
            }
        }
    }
    assert_eq!(*server.alpn.lock().unwrap(), b"http/1.1");
}

#[tokio::test]
async fn a_clients_builder_has_a_provider_and_trusts_whom_the_transport_trusts() {
    let server = Server::new().await;
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "nothing else gives reqwest one");
    let trusting = server.transport(|builder| builder.root_certificate_pem(server.pem.as_bytes()).user_agent("mine/1"));
    for (transport, trusted) in [(trusting, true), (server.transport(|builder| builder), false)] {
        let here = ([127, 0, 0, 1], 0).into();
        let client = transport.client_builder().resolve("as.example", here).build().unwrap();
        let sent = client.post(server.address("as.example")).body("grant_type=canary").send().await;
        assert_eq!(sent.is_ok_and(|answer| answer.status() == 200), trusted);
    }
}

#[tokio::test]
async fn only_calls_that_may_be_repeated_share_a_connection() {
    for (repeat, connections) in [(Repeat::Freely, 1), (Repeat::OnlyIfUnsent, 3)] {
        let server = Server::new().await;
        let transport = server.transport(|builder| builder.root_certificate_pem(server.pem.as_bytes()));
        for _ in 0..3 {
            let call = call(&server.address("as.example"), |call| call.with_repeat(repeat));
            run_with(&transport, call).await.unwrap();
            // The connection goes back to the pool in a task of its own.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), connections, "{repeat:?}");
    }
}
