//! Client certificates, in real handshakes of TLS 1.2 and 1.3 with a server that asks for them.

use std::path::Path;

use grantflow::exchange::Request;
use grantflow::machine::{FailureKind, Identity, Repeat};
use grantflow::{Call, Client, ClientAuthentication, Endpoint, Failure};
use grantflow_tests::Registered;
use grantflow_tests::secure::{Authority, Certificate, SecureFront};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::*;

/// Where a certificate with a name is.
pub(super) enum Given<'a> {
    Pem(&'a str, &'a str),
    Files(&'a Path, &'a Path),
}

/// As a program that renews it writes it.
fn write(renewed: &Certificate, certificate: &Path, key: &Path) {
    std::fs::write(certificate, &renewed.pem).unwrap();
    std::fs::write(key, &renewed.key).unwrap();
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
        roots.add(authority.certificate().der()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring.clone());
        let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
        let config = ServerConfig::builder_with_provider(ring).with_protocol_versions(&[version]).unwrap();
        let config = config
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.der()], own.key_der())
            .unwrap();
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
    let authority = Authority::new("an authority of tests");
    let [first, second] = ["first.example", "second.example"].map(|name| authority.signs(name));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Asking::new(&authority, version, false);
        let named = [("second", Given::Pem(&second.pem, &second.key))];
        let adapter = A::with_identities(&authority.certificate().pem, &named).unwrap();
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
    let authority = Authority::new("an authority of tests");
    let client = authority.signs("client.example");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Asking::new(&authority, version, true);
        let adapter =
            A::with_identities(&authority.certificate().pem, &[("own", Given::Pem(&client.pem, &client.key))]).unwrap();
        let endpoint = Endpoint::new(&format!("https://localhost:{}/token", server.port)).unwrap();
        let request = || Request::get("asking", &endpoint);
        adapter.run(request().identity(Identity::named("own")).exchange(|_| Ok(()))).unwrap();
        assert_eq!(server.last().0, Some(client.der()));
        let call = server.call().with_timeout(Duration::from_secs(2));
        assert!(fetch(&adapter, call).is_err(), "it refuses those that show none");
        // One that another authority signed is shown, and refused.
        let foreign = Authority::new("an authority of tests").signs("client.example");
        assert!(fetch(&adapter, server.call().with_identity(foreign.identity())).is_err());
        assert_eq!(server.seen.lock().unwrap().len(), 1);
    }
}

pub(super) fn files_of_a_certificate_are_read_again_and_the_old_one_is_kept_if_they_cannot_be<A: Adapter>() {
    let authority = Authority::new("an authority of tests");
    let server = Asking::new(&authority, &rustls::version::TLS13, true);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let [first, second, third] = ["first", "second", "third"].map(|name| authority.signs(&format!("{name}.example")));
    let given = || [("own", Given::Files(&certificate, &key))];
    let error = A::with_identities(&authority.certificate().pem, &given()).err().unwrap();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("tls.crt"), "{error}");
    write(&first, &certificate, &key);
    let adapter = A::with_identities(&authority.certificate().pem, &given()).unwrap();
    let shown = || {
        fetch(&adapter, server.call().with_identity(Identity::named("own"))).unwrap();
        server.last().0.unwrap()
    };
    assert_eq!(shown(), first.der());
    assert_eq!(shown(), first.der());
    write(&second, &certificate, &key);
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
    write(&third, &certificate, &key);
    assert_eq!(shown(), third.der());
}

pub(super) fn a_certificate_that_cannot_be_used_is_an_error_without_the_key_and_nothing_is_sent<A: Adapter>() {
    let authority = Authority::new("an authority of tests");
    let [client, other] = ["client.example", "other.example"].map(|name| authority.signs(name));
    let line = client.key.lines().nth(1).unwrap();
    let server = Asking::new(&authority, &rustls::version::TLS13, true);
    let adapter = A::with_identities(&authority.certificate().pem, &[]).unwrap();
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
        let error =
            A::with_identities(&authority.certificate().pem, &[("own", Given::Pem(certificate, key))]).err().unwrap();
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

pub(super) fn a_client_proves_itself_by_its_certificate_and_its_tokens_are_bound_to_it<A: Adapter>() {
    let authority = Authority::new("an authority of tests");
    let (signed, own) = (authority.signs("app.example"), Certificate::self_signed("anybody.example"));
    let given = [("signed", Given::Pem(&signed.pem, &signed.key)), ("own", Given::Pem(&own.pem, &own.key))];
    let adapter = A::with_identities(&authority.certificate().pem, &given).unwrap();
    let (by_authority, by_itself) =
        (ClientAuthentication::tls_client_auth, ClientAuthentication::self_signed_tls_client_auth);
    for (id, authentication, certificate) in [
        ("app", by_authority(Identity::named("signed")), &signed),
        ("app", by_authority(signed.identity()), &signed),
        ("other", by_itself(Identity::named("own")), &own),
        ("other", by_itself(own.identity()), &own),
    ] {
        let server = Server::demo()
            .client(Registered::tls_client_auth("app", authority.certificate().shown(), "app.example"))
            .client(Registered::self_signed_tls_client_auth("other", [own.shown()]));
        let front = SecureFront::start(server, &authority).unwrap();
        let client = Client::new(id).authentication(authentication);
        let issuer = Issuer::new(front.server().issuer()).unwrap();
        let server = adapter.run(Discovery::new(&issuer)).unwrap();
        let request = TokenRequest::password(&server, &client, "alice", "wonderland").unwrap();
        let token = adapter.run(request.exchange()).unwrap();
        let token = adapter.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
        // At the resource the same certificate must come along.
        let resource = |identity: Option<&Identity>| adapter.status(&front.resource(), &token, identity);
        let another = Certificate::self_signed("anybody.example").identity();
        assert_eq!([Some(&certificate.identity()), None, Some(&another)].map(resource), [200, 401, 401]);
        adapter.run(Revocation::of(&server, &client, &token).unwrap().exchange()).unwrap();
        assert_eq!(resource(Some(&certificate.identity())), 401);
        // Another client's certificate is of no use.
        let stolen = Client::new(id).authentication(by_itself(another));
        let request = TokenRequest::client_credentials(&server, &stolen).unwrap();
        let error = adapter.run(request.exchange()).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_client");
    }
}
