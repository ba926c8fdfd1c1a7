//! TLS: rustls with ring, and the platform's idea of whom to trust.

use std::sync::Arc;

use grantflow::{Error, ErrorKind};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

/// A configuration for HTTP/1.1 that trusts the platform's roots, or the bundled ones, and `extra`.
pub(crate) fn config(extra: Vec<CertificateDer<'static>>, bundled: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = if bundled { bundled_roots(extra, &provider) } else { platform(extra, &provider) }
        .map_err(|e| Error::new(ErrorKind::Config, format!("no root certificates to trust: {e}")))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(ErrorKind::Config, format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads the certificates of a PEM file.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: String| Error::new(ErrorKind::Config, format!("the extra root certificates: {why}"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("there is none in this PEM".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

type Verifying = Result<Arc<dyn ServerCertVerifier>, rustls::Error>;

#[cfg(not(target_os = "android"))]
fn platform(extra: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Verifying {
    Ok(Arc::new(Verifier::new_with_extra_roots(extra, provider.clone())?))
}

#[cfg(target_os = "android")]
fn platform(extra: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Verifying {
    if !extra.is_empty() {
        return Err(rustls::Error::General("Android takes no extra ones from a program".into()));
    }
    Ok(Arc::new(Verifier::new(provider.clone())?))
}

#[cfg(feature = "bundled-roots")]
fn bundled_roots(extra: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Verifying {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in extra {
        roots.add(certificate)?;
    }
    rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map(|verifier| verifier as _)
        .map_err(|e| rustls::Error::General(e.to_string()))
}

#[cfg(not(feature = "bundled-roots"))]
fn bundled_roots(extra: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Verifying {
    platform(extra, provider)
}
