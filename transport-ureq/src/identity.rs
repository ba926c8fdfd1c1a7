//! Client certificates: those with a name in the builder, from files that may be renewed, and those that a call brings.
//!
//! ```text
//! Identity::pem ───────────────────────────────┐
//! Identity::named ─▶ given in PEM ─────────────┼─▶ what was made of it, once for each
//!                 └▶ in files, read at each use┘
//! ```
//!
//! Each has a configuration of TLS of its own, and so sessions of its own: a session that is resumed belongs to the
//! client that began it (RFC 8446, section 4.6.1).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow::machine::Identity;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys};
use zeroize::{Zeroize as _, Zeroizing};

/// The most certificates of which what was made is kept; the one that was not used for the longest time goes first.
const MOST: usize = 64;
/// The most bytes of a file.
const MAX_FILE: usize = 1 << 20;
/// The most TLS sessions that are kept for one certificate.
const SESSIONS: usize = 32;

/// The certificates of a transport, and `T`, which was made of each.
pub(crate) struct Identities<T> {
    named: BTreeMap<Box<str>, Source>,
    /// The last one used is the last one here.
    made: Mutex<Vec<(Identity, Arc<T>)>>,
}

/// Where a certificate with a name is.
pub(crate) enum Source {
    Pem(Identity),
    Files {
        certificate: PathBuf,
        key: PathBuf,
        /// The last ones that could be used.
        kept: Mutex<Option<Identity>>,
    },
}

impl Source {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Pem(identity) => certified(identity).map(drop),
            Self::Files { certificate, key, kept } => {
                let read = read(certificate, key)?;
                certified(&read)?;
                *lock(kept) = Some(read);
                Ok(())
            }
        }
    }

    pub(crate) fn files(certificate: &Path, key: &Path) -> Self {
        Self::Files { certificate: certificate.into(), key: key.into(), kept: Mutex::default() }
    }
}

impl<T> Identities<T> {
    /// Those that a builder was given.
    ///
    /// # Errors
    ///
    /// If one cannot be used, or its files cannot be read.
    pub(crate) fn new(named: BTreeMap<Box<str>, Source>) -> Result<Self, String> {
        for (name, source) in &named {
            source
                .check()
                .map_err(|why| format!("the client certificate {:?}: {why}", grantflow::Shown::name(name)))?;
        }
        Ok(Self { named, made: Mutex::default() })
    }

    /// What is made of it, or was made before.
    pub(crate) fn get(
        &self,
        identity: &Identity,
        make: impl Fn(&Identity) -> Result<T, String>,
    ) -> Result<Arc<T>, String> {
        let Some(name) = identity.name() else { return self.made_of(identity, make) };
        let about = |why: String| format!("the client certificate {:?}: {why}", grantflow::Shown::name(name));
        match self.named.get(name) {
            Some(Source::Pem(identity)) => self.made_of(identity, make).map_err(about),
            Some(Source::Files { certificate, key, kept }) => {
                let mut kept = lock(kept);
                let read = read(certificate, key);
                if let (Ok(read), Some(kept)) = (&read, &*kept)
                    && read == kept
                {
                    return self.made_of(kept, make).map_err(about);
                }
                let renewed = read.and_then(|read| self.made_of(&read, &make).map(|made| (read, made)));
                match (renewed, &*kept) {
                    (Ok((read, made)), _) => {
                        if let Some(old) = kept.replace(read) {
                            lock(&self.made).retain(|(identity, _)| *identity != old);
                        }
                        Ok(made)
                    }
                    // They are being renewed, or the new files are of no use: the old ones may still be good.
                    (Err(_), Some(old)) => self.made_of(old, make).map_err(about),
                    (Err(why), None) => Err(about(why)),
                }
            }
            None => Err(format!(
                "the transport has no client certificate {:?}: name it by `Builder::identity`",
                grantflow::Shown::name(name)
            )),
        }
    }

    fn made_of(&self, identity: &Identity, make: impl Fn(&Identity) -> Result<T, String>) -> Result<Arc<T>, String> {
        let mut made = lock(&self.made);
        let found = match made.iter().position(|(other, _)| other == identity) {
            Some(index) => made.remove(index),
            None => (identity.clone(), Arc::new(make(identity)?)),
        };
        let value = found.1.clone();
        made.push(found);
        if made.len() > MOST {
            made.remove(0);
        }
        Ok(value)
    }
}

impl<T> fmt::Debug for Identities<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(certificate: &Path, key: &Path) -> Result<Identity, String> {
    let certificate = text_of(certificate)?;
    let key = text_of(key)?;
    Ok(Identity::pem(&certificate, key.as_str()))
}

fn text_of(path: &Path) -> Result<Zeroizing<String>, String> {
    let wrong = |why: &dyn fmt::Display| format!("the file {}: {why}", grantflow::Shown::path(path));
    let mut content = read_file(path).map_err(|e| wrong(&e))?;
    if content.len() > MAX_FILE {
        return Err(wrong(&"it is too large"));
    }
    match String::from_utf8(std::mem::take(&mut *content)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(wrong(&"it is no PEM text"))
        }
    }
}

fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Room for all of it from the start: growth would leave copies behind.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(MAX_FILE).min(MAX_FILE);
    let mut content = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The configuration with this certificate, and with sessions of its own.
pub(crate) fn presenting(config: &ClientConfig, identity: &Identity) -> Result<ClientConfig, String> {
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified(identity)?));
    // The clone would share them.
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// Reads both. What goes wrong is told without the texts.
fn certified(identity: &Identity) -> Result<CertifiedKey, String> {
    let (chain, key) = identity.as_pem().ok_or("it is neither PEM nor a name")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate is no PEM that can be read")?;
    if chain.is_empty() {
        return Err("there is no certificate in the PEM text".into());
    }
    let mut der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no private key in the PEM text (one with a password must be decrypted)",
        _ => "the private key is no PEM that can be read",
    })?;
    let signing = ring::sign::any_supported_type(&der);
    der.zeroize();
    let signing = signing.map_err(|_| "the private key is none of RSA, P-256, P-384 or Ed25519")?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err("the private key is not that of the certificate".into()),
        Err(_) => Err("the certificate cannot be read".into()),
    }
}
