//! The thumbprint of a client certificate, which a token that is bound to the certificate names (RFC 8705, section
//! 3.1).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::machine::Identity;

/// The SHA-256 thumbprint of a certificate in DER, as `x5t#S256` within `cnf` names it: in an access token that is a JWT,
/// and in what introspection says of one. A resource server compares it with the certificate that came in the
/// handshake.
pub fn x5t_s256(certificate: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(certificate))
}

impl Identity {
    /// The [thumbprint](x5t_s256) of the certificate, to which a token may be [bound](crate::Client::identity). `None`
    /// if only the driver has the certificate, or if it cannot be read.
    pub fn x5t_s256(&self) -> Option<String> {
        let (pem, _) = self.as_pem()?;
        let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
        let (base64, _) = rest.split_once("-----END CERTIFICATE-----")?;
        let base64: String = base64.split_ascii_whitespace().collect();
        STANDARD.decode(base64).ok().map(|der| x5t_s256(&der))
    }
}
