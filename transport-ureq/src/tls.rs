//! TLS: rustls with ring, configured here, as a link in ureq's chain of connectors. ureq's own connector takes no ready
//! configuration, and none of the platform's roots together with extra ones.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConfigBuilder, InvalidMessage, RootCertStore, StreamOwned,
    WantsVerifier,
};
#[cfg(feature = "platform-roots")]
use rustls_platform_verifier::Verifier;
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// What to do about a certificate that nobody known has signed.
const UNKNOWN_ISSUER: &str = " (no known authority has signed the server's certificate: if it is one of your own, \
    name its root certificate by `Builder::root_certificate_pem`)";
/// What to do where the other side does not speak TLS.
const NO_TLS: &str = " (the answer is not TLS: the address may be one for http, or its port another one)";
/// What to do where there are no root certificates.
const NO_ROOTS: &str = "(where the system has none, name them by `Builder::root_certificate_pem`, or turn on feature \
    bundled-roots and call `Builder::bundled_roots`)";

/// An error of TLS with what to do about it.
pub(crate) fn advised(error: Box<dyn StdError + Send + Sync>) -> Box<dyn StdError + Send + Sync> {
    match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!("{error}{UNKNOWN_ISSUER}").into()
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => format!("{error}{NO_TLS}").into(),
        _ => error,
    }
}

/// Which root certificates are trusted.
pub(crate) struct Roots {
    pub(crate) extra: Vec<CertificateDer<'static>>,
    /// The platform's, or else those compiled in.
    pub(crate) platform: bool,
}

type Unfinished = ConfigBuilder<ClientConfig, WantsVerifier>;

impl Roots {
    /// A configuration that trusts them, or why there can be none.
    pub(crate) fn config(&self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        if self.platform {
            return self.platform(builder).map_err(|e| format!("the platform's root certificates: {e} {NO_ROOTS}"));
        }
        let mut roots = RootCertStore::empty();
        #[cfg(feature = "bundled-roots")]
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in &self.extra {
            roots.add(certificate.clone()).map_err(|e| format!("an extra root certificate: {e}"))?;
        }
        if roots.is_empty() {
            return Err(format!("there are no root certificates: feature platform-roots is off {NO_ROOTS}"));
        }
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    #[cfg(feature = "platform-roots")]
    fn platform(&self, builder: Unfinished) -> Result<ClientConfig, rustls::Error> {
        let provider = builder.crypto_provider().clone();
        #[cfg(not(target_os = "android"))]
        let verifier = Verifier::new_with_extra_roots(self.extra.clone(), provider)?;
        #[cfg(target_os = "android")]
        let verifier = match self.extra.is_empty() {
            true => Verifier::new(provider)?,
            false => return Err(rustls::Error::General("Android takes no extra ones".into())),
        };
        // "Dangerous" is a verifier of one's own; this one asks the platform.
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
    }

    #[cfg(not(feature = "platform-roots"))]
    fn platform(&self, _: Unfinished) -> Result<ClientConfig, rustls::Error> {
        Err(rustls::Error::General("feature platform-roots is off".into()))
    }
}

/// Wraps a connection to an https address in TLS.
pub(crate) struct Tls(pub(crate) Option<Arc<ClientConfig>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport<In>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(inner) = chained else { return Ok(None) };
        if !details.needs_tls() || inner.is_tls() {
            return Ok(Some(Either::A(inner)));
        }
        let config = self.0.clone().ok_or(Error::TlsRequired)?;
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|e| Error::Other(e.into()))?;
        let mut conn = ClientConnection::new(config, name).map_err(|e| Error::Other(e.into()))?;
        let mut sock = TransportAdapter::new(inner, details.current_time.clone());
        sock.set_timeout(time_left(details));
        conn.complete_io(&mut sock).map_err(tls_error)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// What TCP and a proxy have left of the time to connect.
fn time_left(details: &ConnectionDetails) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(limit), Instant::Exact(start), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        timeout.after = limit.saturating_sub(now.saturating_duration_since(start)).into();
    }
    timeout
}

/// Tells an error of TLS from one of the connection below it.
fn tls_error(error: io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => Error::Other(error.into()),
        Err(error) => error.into(),
    }
}

pub(crate) struct TlsTransport<T: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<T>>,
}

impl<T: Transport> fmt::Debug for TlsTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl<T: Transport> Transport for TlsTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(tls_error)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf()).map_err(tls_error)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
