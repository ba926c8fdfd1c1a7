//! Signatures by a key that Google keeps: `signBlob` of IAM Credentials.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::impersonated::{Members, delegate_names};
use super::scopes::CLOUD_PLATFORM;
use super::{DEFAULT_UNIVERSE, hosts};
use crate::crypto::{Algorithm, Signer, Signing};
use crate::exchange::Request;
use crate::machine::{Repeat, ask};
use crate::source::{Mint, TokenSource, Want};
use crate::{Cx, Error, ErrorKind, Exchange, Machine, Reply, Step, Token};

/// The machine that has bytes signed with the key that Google keeps for a service account (RSASSA-PKCS1-v1_5 with
/// SHA-256), such as those of a V4 URL of Cloud Storage. `token` is of a credential that has the role
/// `roles/iam.serviceAccountTokenCreator` on the account; it may be the account itself. For an account of another
/// universe, or by delegates: [`IamSigner::sign_with`].
///
/// # Errors
///
/// If the text is no address of a service account, or requests cannot carry the token.
pub fn sign_blob(service_account: &str, token: &Token, bytes: &[u8]) -> Result<Exchange<Vec<u8>>, Error> {
    Key::of(service_account)?.sign(token, bytes)
}

/// The key that Google keeps for a service account.
#[derive(Clone)]
struct Key {
    service_account: Box<str>,
    universe_domain: Box<str>,
    delegates: Vec<String>,
}

#[derive(Serialize)]
struct SignBlobBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delegates: &'a [String],
    payload: String,
}

impl Key {
    fn of(service_account: &str) -> Result<Self, Error> {
        if !hosts::is_email(service_account) {
            return Err(Error::config("the service account to sign for has no address that is one"));
        }
        Ok(Self {
            service_account: service_account.into(),
            universe_domain: DEFAULT_UNIVERSE.into(),
            delegates: Vec::new(),
        })
    }

    fn sign(&self, token: &Token, bytes: &[u8]) -> Result<Exchange<Vec<u8>>, Error> {
        let endpoint = hosts::iam(&self.universe_domain, &self.service_account, "signBlob")?;
        let request = Request::post("having IAM sign", &endpoint).repeat(Repeat::Freely).bearer(token)?;
        let request = request.json(&SignBlobBody { delegates: &self.delegates, payload: STANDARD.encode(bytes) });
        Ok(request.exchange(|received| {
            let members = Members::read(received)?;
            let signature = members.text("signedBlob").ok_or_else(|| members.without("a signedBlob"))?;
            STANDARD
                .decode(signature)
                .map_err(|_| Error::new(ErrorKind::InvalidResponse, "the signedBlob is no base64"))
        }))
    }
}

/// A [`Signer`] whose key Google keeps: for each signature it asks the source for a token, and IAM for the signature.
///
/// With it a [`ServiceAccount`](super::ServiceAccount) works without a key file, also on behalf of users:
///
/// ```
/// use grantflow::google::{IamSigner, MetadataServer, ServiceAccount};
///
/// let email = "mailer@demo-project.iam.gserviceaccount.com";
/// let account = ServiceAccount::with_signer(email, IamSigner::new(MetadataServer::new(), email)?);
/// # let _ = account;
/// # Ok::<(), grantflow::Error>(())
/// ```
///
/// For many signatures, take a token of a manager and [`sign_with`](Self::sign_with), or [`sign_blob`].
#[derive(Clone)]
pub struct IamSigner {
    source: Arc<dyn TokenSource>,
    key: Key,
}

impl IamSigner {
    /// The key of this service account, by a source whose tokens may have it sign. The source must keep
    /// nothing between mints, as a key, the metadata server or an external account: a refresh token that is replaced at
    /// each use would be lost.
    ///
    /// # Errors
    ///
    /// If the text is no address of a service account, or the source keeps something between mints.
    pub fn new(source: impl TokenSource + 'static, service_account: &str) -> Result<Self, Error> {
        let key = Key::of(service_account)?;
        if source.first_state().keeps_successor() {
            return Err(Error::config(
                "a signer has a source that changes as it is used: take sign_blob and a manager",
            ));
        }
        Ok(Self { source: Arc::new(source), key })
    }

    /// Asks IAM of another universe than `googleapis.com`.
    ///
    /// # Errors
    ///
    /// If the text is no domain.
    pub fn with_universe_domain(mut self, domain: &str) -> Result<Self, Error> {
        if !hosts::is_domain(domain) {
            return Err(Error::config("the universe is no domain"));
        }
        self.key.universe_domain = domain.into();
        Ok(self)
    }

    /// Sets the accounts between, as [`Impersonated::delegates`](super::Impersonated::delegates) does.
    ///
    /// # Errors
    ///
    /// If one of the texts is no address of a service account.
    pub fn delegates<S: AsRef<str>>(mut self, delegates: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        self.key.delegates = delegate_names(delegates)?;
        Ok(self)
    }

    /// The machine that has bytes signed by this token, without asking the source for one: as [`sign_blob`].
    ///
    /// # Errors
    ///
    /// If requests cannot carry the token.
    pub fn sign_with(&self, token: &Token, bytes: &[u8]) -> Result<Exchange<Vec<u8>>, Error> {
        self.key.sign(token, bytes)
    }
}

impl Signer for IamSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }

    fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
        let mint = self.source.mint(&Want::access_token(CLOUD_PLATFORM), &self.source.first_state());
        let stage = Stage::Token(mint);
        Signing::Remote(Box::new(Asking { key: self.key.clone(), message: message.to_vec(), stage }))
    }
}

impl fmt::Debug for IamSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IamSigner")
            .field("service_account", &crate::Shown::name(&self.key.service_account))
            .finish_non_exhaustive()
    }
}

/// ```text
/// Token ─▶ Signature ─▶ done
/// ```
struct Asking {
    key: Key,
    message: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Token(Mint),
    Signature(Box<Exchange<Vec<u8>>>),
    Ended,
}

impl Machine for Asking {
    type Output = Vec<u8>;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Vec<u8>> {
        loop {
            let next = match &mut self.stage {
                Stage::Token(mint) => {
                    let token = ask!(&mut **mint, cx, reply);
                    token.and_then(|token| self.key.sign(&token, &self.message))
                }
                Stage::Signature(exchange) => {
                    let signature = ask!(&mut **exchange, cx, reply);
                    self.stage = Stage::Ended;
                    return Step::Done(signature);
                }
                Stage::Ended => return Step::Done(Err(Error::misuse("a signature by IAM"))),
            };
            match next {
                Ok(exchange) => self.stage = Stage::Signature(Box::new(exchange)),
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}
