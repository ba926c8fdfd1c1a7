//! Client certificates, in real handshakes of TLS 1.2 and 1.3 with a server that asks for them.

use std::path::Path;

use grantflow::exchange::Request;
use grantflow::machine::{FailureKind, Identity, Repeat};
use grantflow::{Call, Endpoint, Failure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::*;

/// Where a certificate with a name is.
pub(super) enum Given<'a> {
    Pem(&'a str, &'a str),
    Files(&'a Path, &'a Path),
}

/// An authority that signs the certificates of a server and of clients.
struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
struct Certificate {
    pem: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn signs(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Certificate { pem: certificate.pem(), key: key.serialize_pem() }
    }

    fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }
}

impl Certificate {
    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    fn identity(&self) -> Identity {
        Identity::pem(&self.pem, self.key.as_str())
    }

    /// As a program that renews it writes it.
    fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, &self.pem).unwrap();
        std::fs::write(key, &self.key).unwrap();
    }
}

type Seen = (Option<CertificateDer<'static>>, HandshakeKind, usize);

/// A server at `localhost` that asks for certificates, and notes for each request which one it was shown, how the
/// handshake went, and the number of the connection.
struct Asking {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Asking {
    fn new(authority: &Authority, version: &'static SupportedProtocolVersion, required: bool) -> Self {
        let own = authority.signs("localhost");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.root()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring.clone());
        let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
        let config = ServerConfig::builder_with_provider(ring).with_protocol_versions(&[version]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let config =
            config.with_client_cert_verifier(verifier.build().unwrap()).with_single_cert(vec![own.der()], key).unwrap();
        let (config, seen) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, notes) = (listener.local_addr().unwrap().port(), seen.clone());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
                let notes = notes.clone();
                std::thread::spawn(move || serve(stream, number, &notes));
            }
        });
        Self { port, seen }
    }

    fn call(&self) -> Call {
        let request = http::Request::get(format!("https://localhost:{}/token", self.port)).body(Vec::new());
        Call::new(request.unwrap()).with_timeout(Duration::from_secs(5))
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>, number: usize, notes: &Mutex<Vec<Seen>>) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !text.ends_with("\r\n\r\n") {
            continue;
        }
        text.clear();
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first).map(|it| it.clone().into_owned());
        notes.lock().unwrap().push((shown, stream.conn.handshake_kind().unwrap(), number));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    }
}

fn fetch<A: Adapter>(adapter: &A, call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    adapter.run(calls::Once::new(call)).unwrap()
}

pub(super) fn a_certificate_is_presented_and_sessions_and_connections_are_never_mixed<A: Adapter>() {
    let authority = Authority::new();
    let [first, second] = ["first.example", "second.example"].map(|name| authority.signs(name));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Asking::new(&authority, version, false);
        let named = [("second", Given::Pem(&second.pem, &second.key))];
        let adapter = A::with_identities(&authority.pem, &named).unwrap();
        let whose = [
            (Some(first.identity()), Some(first.der())),
            (Some(Identity::named("second")), Some(second.der())),
            (None, None),
            (Some(second.identity()), Some(second.der())),
        ];
        let mut connections = [const { Vec::new() }; 4];
        let mut whole = [const { Vec::new() }; 4];
        for turn in [0, 1, 2, 3, 2, 1, 0, 0, 3, 1, 2, 0, 3, 2, 1] {
            for repeat in [Repeat::OnlyIfUnsent, Repeat::Freely] {
                let (identity, expected) = &whose[turn];
                let mut call = server.call().with_repeat(repeat);
                if let Some(identity) = identity {
                    call = call.with_identity(identity.clone());
                }
                assert_eq!(fetch(&adapter, call).unwrap().status(), 200);
                let (shown, kind, number) = server.last();
                assert_eq!(shown, *expected, "turn of {turn}, {kind:?}");
                connections[turn].push(number);
                if kind != HandshakeKind::Resumed && !whole[turn].contains(&number) {
                    whole[turn].push(number);
                }
            }
        }
        // All after the first one resume a session of the same client; the two with one certificate are one client.
        assert_eq!(whole.map(|numbers| numbers.len()), [1, 1, 1, 0]);
        let [one, two, none, again] = connections;
        let apart = |a: &[usize], b: &[usize]| a.iter().all(|number| !b.contains(number));
        assert!(apart(&one, &two) && apart(&one, &none) && apart(&two, &none));
        assert!(apart(&again, &one) && apart(&again, &none));
    }
}

pub(super) fn a_server_that_needs_a_certificate_gets_it_from_a_request_of_core<A: Adapter>() {
    let authority = Authority::new();
    let client = authority.signs("client.example");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Asking::new(&authority, version, true);
        let adapter = A::with_identities(&authority.pem, &[("own", Given::Pem(&client.pem, &client.key))]).unwrap();
        let endpoint = Endpoint::new(&format!("https://localhost:{}/token", server.port)).unwrap();
        let request = || Request::get("asking", &endpoint);
        adapter.run(request().identity(Identity::named("own")).exchange(|_| Ok(()))).unwrap();
        assert_eq!(server.last().0, Some(client.der()));
        let call = server.call().with_timeout(Duration::from_secs(2));
        assert!(fetch(&adapter, call).is_err(), "it refuses those that show none");
        // One that another authority signed is shown, and refused.
        let foreign = Authority::new().signs("client.example");
        assert!(fetch(&adapter, server.call().with_identity(foreign.identity())).is_err());
        assert_eq!(server.seen.lock().unwrap().len(), 1);
    }
}

pub(super) fn files_of_a_certificate_are_read_again_and_the_old_one_is_kept_if_they_cannot_be<A: Adapter>() {
    let authority = Authority::new();
    let server = Asking::new(&authority, &rustls::version::TLS13, true);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let [first, second, third] = ["first", "second", "third"].map(|name| authority.signs(&format!("{name}.example")));
    let given = || [("own", Given::Files(&certificate, &key))];
    let error = A::with_identities(&authority.pem, &given()).err().unwrap();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("tls.crt"), "{error}");
    first.write(&certificate, &key);
    let adapter = A::with_identities(&authority.pem, &given()).unwrap();
    let shown = || {
        fetch(&adapter, server.call().with_identity(Identity::named("own"))).unwrap();
        server.last().0.unwrap()
    };
    assert_eq!(shown(), first.der());
    assert_eq!(shown(), first.der());
    second.write(&certificate, &key);
    assert_eq!(shown(), second.der());
    // Half of the new one is there.
    std::fs::write(&certificate, &third.pem).unwrap();
    assert_eq!(shown(), second.der());
    for (certificate_is, key_is) in
        [("", &*third.key), (&third.pem[..third.pem.len() / 2], &third.key), (&third.pem, ""), (&third.pem, "\u{0}x")]
    {
        std::fs::write(&certificate, certificate_is).unwrap();
        std::fs::write(&key, key_is).unwrap();
        assert_eq!(shown(), second.der());
    }
    std::fs::remove_file(&key).unwrap();
    assert_eq!(shown(), second.der());
    third.write(&certificate, &key);
    assert_eq!(shown(), third.der());
}

pub(super) fn a_certificate_that_cannot_be_used_is_an_error_without_the_key_and_nothing_is_sent<A: Adapter>() {
    let authority = Authority::new();
    let [client, other] = ["client.example", "other.example"].map(|name| authority.signs(name));
    let line = client.key.lines().nth(1).unwrap();
    let server = Asking::new(&authority, &rustls::version::TLS13, true);
    let adapter = A::with_identities(&authority.pem, &[]).unwrap();
    let cut = format!("-----BEGIN PRIVATE KEY-----\n{line}\n");
    let locked = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{line}\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let odd = format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n");
    for (certificate, key, says) in [
        ("", &*client.key, "there is no certificate"),
        (&client.key, &client.key, "there is no certificate"),
        ("-----BEGIN CERTIFICATE-----\n", &client.key, "the certificate is no PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &client.key,
            "the certificate cannot be read",
        ),
        (&client.pem, "", "there is no private key"),
        (&client.pem, &client.pem, "there is no private key"),
        (&client.pem, &locked, "must be decrypted"),
        (&client.pem, &cut, "the private key is no PEM"),
        (&client.pem, &odd, "the private key is none of"),
        (&client.pem, &other.key, "the private key is not that of the certificate"),
    ] {
        let hidden = |shown: String| {
            let leaks = [line, other.key.lines().nth(1).unwrap()].iter().any(|secret| shown.contains(&secret[..12]));
            assert!(!leaks && shown.contains(says), "{says}: {shown}");
        };
        let failure = fetch(&adapter, server.call().with_identity(Identity::pem(certificate, key))).unwrap_err();
        assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Tls, false), "{failure}");
        hidden(format!("{failure} {failure:?}"));
        let error = A::with_identities(&authority.pem, &[("own", Given::Pem(certificate, key))]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        hidden(format!("{error} {error:?}"));
        assert!(error.to_string().contains(r#"the client certificate "own""#), "{error}");
    }
    let failure = fetch(&adapter, server.call().with_identity(Identity::named("gone"))).unwrap_err();
    assert!(failure.to_string().contains(r#"no client certificate "gone""#), "{failure}");
    let front = Front::start(Server::demo()).unwrap();
    let cleartext = http::Request::get(front.url(Place::OpenIdMetadata)).body(Vec::new()).unwrap();
    let call = Call::new(cleartext).with_reach(grantflow::machine::Reach::Local).with_identity(client.identity());
    let failure = fetch(&adapter, call).unwrap_err();
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Forbidden, false), "{failure}");
    assert!(front.connections() == 0 && server.seen.lock().unwrap().is_empty());
}
