//! The certificate that a client presents with a request.

use std::fmt;
use std::sync::Arc;

use crate::Secret;

/// A client certificate with its key, or the name of one that the driver has. Cheap to clone.
///
/// `Debug` shows a name, but no certificate and no key. The key is wiped on drop.
#[derive(Clone)]
pub struct Identity(Arc<Certificate>);

enum Certificate {
    Pem { chain: Box<str>, key: Secret },
    Named(Box<str>),
}

impl Identity {
    /// A certificate and its key in PEM: the client's certificate first, then those that lead to its root. Neither
    /// is read here: a driver that cannot use them says so.
    pub fn pem(certificate: &str, key: impl Into<Secret>) -> Self {
        Self(Arc::new(Certificate::Pem { chain: certificate.into(), key: key.into() }))
    }

    /// The certificate that has this name in the driver's configuration, such as one whose files are renewed while the
    /// program runs.
    ///
    /// ```
    /// use grantflow::machine::Identity;
    ///
    /// // With, say, `Transport::builder().identity_files("gateway", "tls.crt", "tls.key")`.
    /// let gateway = Identity::named("gateway");
    /// assert_eq!(gateway.name(), Some("gateway"));
    /// ```
    pub fn named(name: &str) -> Self {
        Self(Arc::new(Certificate::Named(name.into())))
    }

    /// The certificate and the key, if they were given by [`pem`](Self::pem).
    pub fn as_pem(&self) -> Option<(&str, &Secret)> {
        match &*self.0 {
            Certificate::Pem { chain, key } => Some((chain, key)),
            Certificate::Named(_) => None,
        }
    }

    /// The name, if it was given by [`named`](Self::named).
    pub fn name(&self) -> Option<&str> {
        match &*self.0 {
            Certificate::Pem { .. } => None,
            Certificate::Named(name) => Some(name),
        }
    }
}

/// The same certificate with the same key, or the same name.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (Certificate::Named(name), Certificate::Named(other)) => name == other,
            (Certificate::Pem { chain, key }, Certificate::Pem { chain: other, key: others }) => {
                chain == other && key.matches(others.expose())
            }
            _ => false,
        }
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Certificate::Pem { .. } => f.write_str("Identity(a certificate and its key)"),
            Certificate::Named(name) => write!(f, "Identity(named {:?})", crate::Shown::name(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_shows_neither_its_certificate_nor_its_key() {
        let pem = Identity::pem("certificate-canary", "key-canary");
        assert_eq!(format!("{pem:?}"), "Identity(a certificate and its key)");
        let (certificate, key) = pem.as_pem().unwrap();
        assert_eq!((certificate, key.expose(), pem.name()), ("certificate-canary", "key-canary", None));
        let named = Identity::named("smart card");
        assert_eq!(format!("{named:?}"), r#"Identity(named "smart card")"#);
        assert!(named.name() == Some("smart card") && named.as_pem().is_none());
        let all = [
            pem.clone(),
            named.clone(),
            Identity::pem("certificate-canary", "another key"),
            Identity::pem("another certificate", "key-canary"),
            Identity::named("another card"),
            Identity::named("certificate-canary"),
        ];
        for (i, one) in all.iter().enumerate() {
            let same: Vec<_> = (0..all.len()).filter(|j| all[*j] == *one).collect();
            assert_eq!(same, [i], "each is the same as itself alone");
        }
        assert_eq!(pem, Identity::pem("certificate-canary", "key-canary"));
    }
}
