//! TLS: rustls with ring, and the roots that the platform trusts.

use std::fmt;
use std::sync::{Arc, OnceLock};

use grantflow::{Error, ErrorKind};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// What to do about a certificate that nobody known has signed.
const UNKNOWN_ISSUER: &str = " (no known authority has signed the server's certificate: if it is one of your own, \
    name its root certificate by `Builder::root_certificate_pem`)";
/// What to do where the other side does not speak TLS.
const NO_TLS: &str = " (the answer is not TLS: the address may be one for http, or its port another one)";
/// What to do where the platform has no root certificates.
const NO_ROOTS: &str = "(where the system has none, name them by `Builder::root_certificate_pem`, or turn on feature \
    bundled-roots and call `Builder::bundled_roots`)";

/// What to do about an error of TLS, if that is known.
pub(crate) fn remedy(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(UNKNOWN_ISSUER),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(NO_TLS),
        _ => None,
    }
}

/// Whom to trust.
#[derive(Default)]
pub(crate) struct Roots {
    pub(crate) extra: Vec<CertificateDer<'static>>,
    #[cfg(feature = "bundled-roots")]
    pub(crate) bundled: bool,
}

/// Reads the certificates of a PEM text.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: String| Error::new(ErrorKind::Config, format!("the root certificate: {why}"));
    // The parser's own words quote the text.
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| wrong("it is not in PEM form, or its last line is missing".into()))?;
    if found.is_empty() {
        return Err(wrong("there is none in the PEM text".into()));
    }
    let mut store = RootCertStore::empty();
    found.iter().try_for_each(|found| store.add(found.clone())).map_err(|e| wrong(e.to_string()))?;
    Ok(found)
}

/// A configuration for HTTP/1.1.
pub(crate) fn config(roots: Roots) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Lazy { roots, provider: provider.clone(), made: OnceLock::new() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(ErrorKind::Config, format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

type Made = Result<Arc<dyn ServerCertVerifier>, rustls::Error>;

impl Roots {
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Made {
        #[cfg(feature = "bundled-roots")]
        if self.bundled {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            self.extra.iter().try_for_each(|extra| roots.add(extra.clone()))?;
            let made = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
            return Ok(made.build().map_err(|e| rustls::Error::General(e.to_string()))?);
        }
        #[cfg(not(target_os = "android"))]
        return match Verifier::new_with_extra_roots(self.extra.iter().cloned(), provider.clone()) {
            Ok(verifier) => Ok(Arc::new(verifier)),
            Err(error) => Err(rustls::Error::General(format!("the platform's root certificates: {error} {NO_ROOTS}"))),
        };
        #[cfg(target_os = "android")]
        if self.extra.is_empty() {
            Ok(Arc::new(Verifier::new(provider.clone())?))
        } else {
            Err(rustls::Error::General("Android takes no root certificates from a program".into()))
        }
    }
}

/// A verifier that is made at the first handshake: reading the platform's roots takes time, and a host may
/// have none, which is no reason to fail before one is needed.
struct Lazy {
    roots: Roots,
    provider: Arc<CryptoProvider>,
    made: OnceLock<Made>,
}

impl ServerCertVerifier for Lazy {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let made = self.made.get_or_init(|| self.roots.verifier(&self.provider)).clone()?;
        made.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("made", &self.made.get().is_some()).finish_non_exhaustive()
    }
}
