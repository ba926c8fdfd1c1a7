//! [`Verifier`]: the rules for a kind of token, and where the keys come from.
//!
//! ```text
//!                   ┌─ verify_with(token, keys at hand, now) ─▶ Done(the token, or why it is refused)
//!   a driver's own ─┤                                      └──▶ Ask: newer keys may do ─▶ read_keys ─▶ once more
//!   or Verify ──────┘
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::claims::Claims;
use super::jwk::Jwk;
use super::jws::{Jws, Verified};
use super::keys::{KeySet, KeySource, ReadKeys};
use crate::crypto::{Algorithm, MacKey};
use crate::machine::ask;
use crate::{Cx, Endpoint, Error, ErrorKind, Machine, Now, Reply, Secret, ServerMetadata, Step};

/// How far clocks may be off, by default.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
/// How far they may be said to be off at the most.
const MOST_LEEWAY: Duration = Duration::from_secs(300);

/// A verifier of tokens of one kind, by their signatures: of [ID tokens](super::IdToken) from elsewhere than the token
/// endpoint, such as a mobile application, of [access tokens](super::AccessToken) that were presented to a resource
/// server, or of [logout tokens](super::LogoutToken).
///
/// It is a value: the rules, and where the keys are. Cheap to clone. An adapter's `TokenVerifier` keeps the keys, and
/// verifies with them without a lock; [`verify`](Self::verify) is a machine for any driver.
///
/// ```
/// use grantflow::{Issuer, Verifier};
///
/// let google = Verifier::google_id_tokens(["1234-web.apps.googleusercontent.com"]).hosted_domain("example.com");
/// let api = Verifier::access_tokens(&Issuer::new("https://as.example")?, "https://api.example");
/// # let _ = (google, api);
/// # Ok::<(), grantflow::Error>(())
/// ```
pub struct Verifier<T: Verifiable> {
    pub(super) rules: Arc<T::Rules>,
    pub(super) keys: Keys,
    pub(super) algorithms: Arc<[Algorithm]>,
    pub(super) leeway: Duration,
}

/// What vouches for a token.
#[derive(Clone)]
pub(super) enum Keys {
    Public(KeySource),
    Secret(Arc<MacKey>),
}

/// A kind of token that can be verified: [`IdToken`](super::IdToken), [`AccessToken`](super::AccessToken) and
/// [`LogoutToken`](super::LogoutToken).
pub trait Verifiable: sealed::Kind {}

impl<T: sealed::Kind> Verifiable for T {}

pub(super) mod sealed {
    use super::*;

    pub trait Kind: Sized + Send + 'static {
        /// What a token of this kind must hold.
        type Rules: Clone + Send + Sync + 'static;

        /// The rules of the kind, in the standard's order.
        fn check(rules: &Self::Rules, token: &Presented<'_>) -> Result<(), Error>;

        /// Whether such a token may be signed by this key.
        fn may_sign(_: &Self::Rules, _: &Claims, _: &Jwk) -> bool {
            true
        }

        /// A token that was verified.
        fn verified(rules: &Self::Rules, text: &str, claims: Claims) -> Self;
    }

    /// A token to be checked, with what is known of the moment.
    #[derive(Debug)]
    pub struct Presented<'a> {
        pub(in crate::jose) jws: &'a Jws<'a>,
        pub(in crate::jose) claims: &'a Claims,
        pub(in crate::jose) nonce: Option<&'a Secret>,
        pub(in crate::jose) now: crate::Timestamp,
        pub(in crate::jose) leeway: Duration,
        /// Whether a shared secret vouches for it.
        pub(in crate::jose) is_shared: bool,
    }
}

/// The result of verifying a token by the keys at hand.
#[must_use]
#[derive(Debug)]
pub enum Verdict<T> {
    /// The token is verified, or refused for good.
    Done(Result<T, Error>),
    /// No key at hand fits: [newer](Verifier::read_keys) keys may. If none can be read, this is the error.
    Ask(Error),
}

impl<T: Verifiable> Verifier<T> {
    pub(super) fn new(rules: T::Rules, keys: KeySource) -> Self {
        let (rules, keys) = (Arc::new(rules), Keys::Public(keys));
        Self { rules, keys, algorithms: Arc::new(Algorithm::ALL), leeway: LEEWAY }
    }

    /// The keys of this server, where its metadata says that they are.
    pub(super) fn of_server(rules: T::Rules, server: &ServerMetadata) -> Result<Self, Error> {
        Ok(Self::new(rules, KeySource::At(server.jwks()?.clone())))
    }

    pub(super) fn edit(&mut self) -> &mut T::Rules {
        Arc::make_mut(&mut self.rules)
    }

    /// Takes the keys from this address, and not from the one that the issuer's metadata names.
    pub fn jwks_uri(mut self, address: &str) -> Result<Self, Error> {
        self.keys = Keys::Public(KeySource::At(Endpoint::new(address)?));
        Ok(self)
    }

    /// Uses these keys, and reads none.
    pub fn with_keys(mut self, keys: super::JwkSet) -> Self {
        self.keys = Keys::Public(KeySource::Here(KeySet::fixed(keys)));
        self
    }

    /// Treats the issuer as a stranger, which the program's configuration has not chosen: its metadata and its keys are
    /// read from global addresses alone. See [`Discovery::of_stranger`](crate::Discovery::of_stranger).
    ///
    /// # Errors
    ///
    /// If the address of its keys is known not to be global.
    pub fn of_stranger(mut self) -> Result<Self, Error> {
        match &mut self.keys {
            Keys::Public(KeySource::Issuer { stranger, .. }) => *stranger = true,
            Keys::Public(KeySource::At(endpoint)) => *endpoint = Endpoint::of_stranger(endpoint.as_str())?,
            Keys::Public(KeySource::Here(_)) | Keys::Secret(_) => {}
        }
        Ok(self)
    }

    /// Accepts signatures by these algorithms alone (RFC 8725, section 3.1). By default all that have a public key are
    /// accepted, and a key that names its algorithm is used for that one.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets how far clocks may be off: a minute by default, and 5 minutes at the most (RFC 7519, section 4.1.4).
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(MOST_LEEWAY);
        self
    }

    /// The machine that verifies a token. Each one reads the keys, which costs a request only where the driver has no
    /// [`Documents`](crate::documents::Documents) or they are old.
    ///
    /// # Errors
    ///
    /// The machine ends with an error of kind [`ErrorKind::Signature`], of the kind for what it verifies
    /// ([`ErrorKind::IdToken`], [`ErrorKind::AccessToken`]), or with one of the request for keys. A
    /// [transient](Error::is_transient) error says nothing about the token.
    pub fn verify(&self, token: &str) -> Verify<T> {
        Verify { verifier: self.clone(), token: token.into(), nonce: None, stage: Stage::Begin }
    }

    /// Verifies a token by the keys at hand. It makes no request.
    pub fn verify_with(&self, token: &str, keys: &KeySet, now: Now) -> Verdict<T> {
        self.judge(token, None, keys, now)
    }

    pub(super) fn judge(&self, token: &str, nonce: Option<&Secret>, keys: &KeySet, now: Now) -> Verdict<T> {
        match self.check(token, nonce, keys, now) {
            Ok(Ok(verified)) => Verdict::Done(Ok(verified)),
            Ok(Err(error)) => Verdict::Ask(error),
            Err(error) => Verdict::Done(Err(error)),
        }
    }

    /// The inner error is one that newer keys may help against.
    fn check(&self, token: &str, nonce: Option<&Secret>, keys: &KeySet, now: Now) -> Result<Result<T, Error>, Error> {
        let jws = Jws::read(token)?;
        // A token that is refused anyway, because it has ended or is somebody else's, costs no signature and no request.
        let claims = jws.unverified_claims()?;
        let is_shared = matches!(&self.keys, Keys::Secret(_));
        let (moment, leeway) = (now.wall, self.leeway);
        let presented = sealed::Presented { jws: &jws, claims: &claims, nonce, now: moment, leeway, is_shared };
        T::check(&self.rules, &presented)?;
        match &self.keys {
            Keys::Secret(key) => drop(jws.verify_mac(key)?),
            Keys::Public(_) => {
                let may = |key: &Jwk| T::may_sign(&self.rules, &claims, key);
                match jws.verify_by(keys.keys(), jws.allowed(&self.algorithms)?, may) {
                    Verified::Yes => {}
                    Verified::No => return Err(Error::new(ErrorKind::Signature, "the token's signature is wrong")),
                    Verified::NoKey => return self.without_key(&claims, keys, now).map(Err),
                }
            }
        }
        Ok(Ok(T::verified(&self.rules, token, claims)))
    }

    /// No key is here for a token. Keys are published before they are used: one that was issued before these were read
    /// is by a key that is not in use any more, or never was. A newer one may be by a key that is newer, too.
    fn without_key(&self, claims: &Claims, keys: &KeySet, now: Now) -> Result<Error, Error> {
        let missing = |why| Error::new(ErrorKind::Signature, why);
        let Some(read) = keys.read_at() else { return Err(missing("no key here is for the signature")) };
        let known = claims.time("iat").is_some_and(|iat| iat + self.leeway < read.wall);
        match keys.may_ask(now) {
            _ if known => Err(missing("the issuer has no key for the signature")),
            Ok(()) => Ok(missing("no key for the signature is known yet").transient()),
            Err(wait) => {
                let why = "the issuer had no key for the signature when it was asked, which is less than 30 s ago";
                let error = missing(why).transient().with_retry_after(Some(wait));
                Err(match keys.failure() {
                    Some(failure) => error.with_source(failure.clone()),
                    None => error,
                })
            }
        }
    }

    /// Whether the verifier reads its keys from a server.
    pub fn reads_keys(&self) -> bool {
        matches!(&self.keys, Keys::Public(KeySource::Issuer { .. } | KeySource::At(_)))
    }

    /// The verifier's own keys, if it does not read them from a server.
    pub fn own_keys(&self) -> Option<KeySet> {
        match &self.keys {
            Keys::Public(KeySource::Here(keys)) => Some(keys.clone()),
            Keys::Secret(_) => Some(KeySet::fixed(super::JwkSet::default())),
            Keys::Public(_) => None,
        }
    }

    /// The machine that reads the keys: the first ones, or newer ones in place of `old`. If newer ones cannot be read,
    /// it yields the old ones, which note the failure, or an error if those were read more than 24 hours ago.
    pub fn read_keys(&self, old: Option<&KeySet>, now: Now) -> ReadKeys {
        match &self.keys {
            Keys::Public(source) => ReadKeys::new(source, old, Some(now)),
            Keys::Secret(_) => {
                ReadKeys::new(&KeySource::Here(KeySet::fixed(super::JwkSet::default())), None, Some(now))
            }
        }
    }
}

impl<T: Verifiable> Clone for Verifier<T> {
    fn clone(&self) -> Self {
        let Self { rules, keys, algorithms, leeway } = self;
        Self { rules: rules.clone(), keys: keys.clone(), algorithms: algorithms.clone(), leeway: *leeway }
    }
}

impl<T: Verifiable> fmt::Debug for Verifier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Verifier");
        match &self.keys {
            Keys::Public(KeySource::Issuer { issuer, .. }) => shown.field("issuer", issuer),
            Keys::Public(KeySource::At(endpoint)) => shown.field("jwks_uri", endpoint),
            Keys::Public(KeySource::Here(keys)) => shown.field("keys", keys),
            Keys::Secret(key) => shown.field("secret", key),
        };
        shown.field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// The machine that verifies one token: see [`Verifier::verify`].
///
/// ```text
/// Begin ─▶ Keys ─▶ judged ─▶ Done
///                   │  ▲
///        no key yet ▼  │
///                 Newer keys
/// ```
pub struct Verify<T: Verifiable> {
    verifier: Verifier<T>,
    token: Secret,
    nonce: Option<Secret>,
    stage: Stage,
}

enum Stage {
    Begin,
    Keys(ReadKeys),
    Newer(ReadKeys),
    Ended,
}

impl<T: Verifiable> Verify<T> {
    pub(super) fn with_nonce(mut self, nonce: &Secret) -> Self {
        self.nonce = Some(nonce.clone());
        self
    }
}

impl<T: Verifiable> Machine for Verify<T> {
    type Output = T;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<T> {
        loop {
            let (read, first) = match &mut self.stage {
                Stage::Begin if matches!(reply, Reply::Start) => {
                    self.stage = Stage::Keys(self.verifier.read_keys(None, cx.now()));
                    continue;
                }
                Stage::Keys(reading) => (ask!(reading, cx, reply), true),
                Stage::Newer(reading) => (ask!(reading, cx, reply), false),
                Stage::Begin | Stage::Ended => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(Error::misuse("verifying a token")));
                }
            };
            self.stage = Stage::Ended;
            let keys = match read {
                Ok(keys) => keys,
                Err(error) => return Step::Done(Err(error)),
            };
            match self.verifier.judge(self.token.expose(), self.nonce.as_ref(), &keys, cx.now()) {
                Verdict::Done(result) => return Step::Done(result),
                Verdict::Ask(_) if first => {
                    self.stage = Stage::Newer(self.verifier.read_keys(Some(&keys), cx.now()));
                }
                Verdict::Ask(error) => return Step::Done(Err(error)),
            }
        }
    }
}

impl<T: Verifiable> fmt::Debug for Verify<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}
