//! TLS for pretend servers: an authority, the certificates that it signs, and a front that asks for those of clients.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow::machine::Identity;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName as Subject, ServerConfig, ServerConnection, StreamOwned};

use crate::front::{Site, answer_on, wall_clock};
use crate::google::Google;
use crate::server::{ClientCertificate, Server, Wire};

/// An authority that signs the certificates of servers and of clients.
#[derive(Debug)]
pub struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub pem: String,
    /// Its key.
    pub key: String,
}

/// What a certificate of this common name is made of. It is good for this name as a host.
pub fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name can be in a certificate");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    /// One of this name, with a key of its own.
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let certificate = Certificate { pem, key: key.serialize_pem() };
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A certificate of this name.
    pub fn signs(&self, name: &str) -> Certificate {
        self.signs_with(params(name))
    }

    /// A certificate that is made of this.
    pub fn signs_with(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Certificate { pem, key: key.serialize_pem() }
    }
}

impl Certificate {
    /// One of this name that nobody else has signed.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self { pem: params(name).self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
    }

    /// As a client presents it.
    pub fn identity(&self) -> Identity {
        Identity::pem(&self.pem, self.key.as_str())
    }

    /// As a pretend server knows it.
    pub fn shown(&self) -> ClientCertificate {
        ClientCertificate::new(&self.der())
    }

    /// As it comes in a handshake.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was made here")
    }

    /// Its key.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("it was made here")
    }
}

/// A pretend server that listens at `https://localhost`, and at another port asks clients for a certificate. It stops when
/// this is dropped.
#[derive(Debug)]
pub struct SecureFront<S: Site = Server> {
    server: Arc<Mutex<S>>,
    ports: [u16; 2],
    stopping: Arc<AtomicBool>,
}

impl SecureFront {
    /// Serves it with a certificate that this authority has signed.
    ///
    /// # Errors
    ///
    /// If no port can be listened at.
    pub fn start(server: Server, authority: &Authority) -> std::io::Result<Self> {
        Self::at_two_ports(server, authority, |server, origins| {
            server.move_to(&origins[0]);
            server.settings.mtls_origin = Some(origins[1].clone());
        })
    }

    /// A person opens this and consents: the address that the browser is sent to.
    ///
    /// # Panics
    ///
    /// If it is sent nowhere.
    pub fn person(&self, url: &str) -> String {
        let request = http::Request::get(url).body(Vec::new()).expect("an address");
        let Wire::Whole(response) = self.server().answer(wall_clock(), &request).wire else { panic!("no answer") };
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        location.unwrap_or_else(|| panic!("no redirect: {}", String::from_utf8_lossy(response.body()))).to_owned()
    }

    /// Where a resource is asked, with a certificate or without.
    pub fn resource(&self) -> String {
        format!("https://localhost:{}/resource", self.ports[1])
    }
}

impl SecureFront<Google> {
    /// Serves it where clients are asked for a certificate, with one that this authority has signed.
    ///
    /// # Errors
    ///
    /// If no port can be listened at.
    pub fn start_google(google: Google, authority: &Authority) -> std::io::Result<Self> {
        Self::at_two_ports(google, authority, |google, origins| google.move_to(&origins[1]))
    }
}

impl<S: Site> SecureFront<S> {
    fn at_two_ports(
        mut server: S,
        authority: &Authority,
        move_to: impl FnOnce(&mut S, [String; 2]),
    ) -> std::io::Result<Self> {
        let [plain, asking] =
            [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let ports = [plain.local_addr()?.port(), asking.local_addr()?.port()];
        move_to(&mut server, ports.map(|port| format!("https://localhost:{port}")));
        let (server, stopping) = (Arc::new(Mutex::new(server)), Arc::new(AtomicBool::new(false)));
        let own = authority.signs("localhost");
        for (listener, asks) in [(plain, false), (asking, true)] {
            let (server, stopping, config) = (server.clone(), stopping.clone(), Arc::new(config(&own, asks)));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let (server, config) = (server.clone(), config.clone());
                    // Whatever breaks here is the peer's to see.
                    std::thread::spawn(move || drop(serve(stream, &config, &server)));
                }
            });
        }
        Ok(Self { server, ports, stopping })
    }

    /// The server, to look at or to change. Nothing is answered while this is held.
    pub fn server(&self) -> MutexGuard<'_, S> {
        lock(&self.server)
    }
}

impl<S: Site> Drop for SecureFront<S> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // One connection more wakes the thread that waits for one.
        for port in self.ports {
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(own: &Certificate, asks: bool) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.expect("ring has the versions");
    let config = match asks {
        true => config.with_client_cert_verifier(Arc::new(AnyCertificate(provider))),
        false => config.with_no_client_auth(),
    };
    config.with_single_cert(vec![own.der()], own.key_der()).expect("the certificate was made here")
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, server: &Mutex<impl Site>) -> std::io::Result<()> {
    let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    answer_on(&mut stream, |stream, mut request| {
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
        if let Some(certificate) = shown {
            request.extensions_mut().insert(ClientCertificate::new(certificate));
        }
        match lock(server).answer(wall_clock(), &request).wire {
            Wire::Whole(response) => Some(response),
            _ => None,
        }
    })?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Takes any certificate whose key the client has: what it is good for the pretend server says.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[Subject] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
