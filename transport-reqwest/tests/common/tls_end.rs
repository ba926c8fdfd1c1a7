//! TLS in front of a server in cleartext.

use std::net::SocketAddr;
use std::sync::Arc;

use grantflow_reqwest::Transport;
use grantflow_reqwest::reqwest::ClientBuilder;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A port that speaks TLS and hands everything on.
pub(crate) struct TlsEnd {
    pub(crate) address: SocketAddr,
    /// The certificate, its own root.
    pub(crate) pem: String,
}

impl TlsEnd {
    /// A client that finds this host there.
    pub(crate) fn find(&self, host: &str, builder: ClientBuilder) -> ClientBuilder {
        builder.resolve(host, self.address)
    }

    /// A transport that trusts it.
    #[allow(dead_code, reason = "not every test that has such an end needs it")]
    pub(crate) fn transport(&self) -> Transport {
        Transport::builder().root_certificate_pem(self.pem.as_bytes()).build().unwrap()
    }

    /// With a certificate for these names, in front of `to`.
    pub(crate) async fn new(names: &[&str], to: SocketAddr) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whatever breaks here is the client's to see.
                    let Ok(mut socket) = acceptor.accept(socket).await else { return };
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
                });
            }
        });
        Self { address, pem: cert.pem() }
    }
}
