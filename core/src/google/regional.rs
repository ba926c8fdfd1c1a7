//! Regional access boundaries: the places in which a credential's requests may be served, as a header beside its
//! tokens.
//!
//! ```text
//! Mint (of the credential) ─▶ Lookup ─▶ done: the token, with the header if there is one
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{DEFAULT_UNIVERSE, hosts};
use crate::exchange::Request;
use crate::machine::ask;
use crate::server::Endpoint;
use crate::source::{Again, Change, GrantState, Mint, Minting, TokenSource, Waiting, Want, WantKind};
use crate::{Cx, Error, ErrorKind, Exchange, Machine, Reply, Shown, Step, Token};

/// How long the lookup may take: a token waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
const HEADER: HeaderName = HeaderName::from_static("x-allowed-locations");
/// What stands for no boundary.
const ANYWHERE: &str = "0x0";

/// A credential whose access tokens carry its regional access boundary: the header `x-allowed-locations`, by which
/// Google's APIs refuse requests that would leave the allowed locations.
///
/// After each new token the boundary is looked up with that token. If that fails or takes longer than 3 seconds, only
/// the header is missing, as with Google's own libraries. Other universes than `googleapis.com` have no such boundary.
///
/// ```
/// use grantflow::google::{MetadataServer, RegionalAccess};
///
/// let email = "svc@demo-project.iam.gserviceaccount.com";
/// let source = RegionalAccess::of_service_account(MetadataServer::new(), email)?;
/// # let _ = source;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct RegionalAccess {
    source: Arc<dyn TokenSource>,
    lookup: Endpoint,
}

impl RegionalAccess {
    /// The boundary of this service account, whose tokens the source mints: its key, an impersonation, the metadata
    /// server.
    ///
    /// # Errors
    ///
    /// If the text is no address of a service account.
    pub fn of_service_account(source: impl TokenSource + 'static, email: &str) -> Result<Self, Error> {
        if !hosts::is_email(email) {
            return Err(Error::config("the service account of a regional access boundary has no address that is one"));
        }
        Self::at(source, &format!("projects/-/serviceAccounts/{email}"))
    }

    /// The boundary of the pool of this audience, whose tokens the source mints: an external account that impersonates
    /// no service account, or a user of a workforce.
    ///
    /// # Errors
    ///
    /// If the audience is not that of a provider of a workload pool or of a workforce pool.
    pub fn of_pool(source: impl TokenSource + 'static, audience: &str) -> Result<Self, Error> {
        let pool = pool_of(audience);
        let pool = pool.ok_or_else(|| Error::config("the audience names no provider of a pool"))?;
        Self::at(source, pool)
    }

    fn at(source: impl TokenSource + 'static, name: &str) -> Result<Self, Error> {
        let lookup = Endpoint::new(&format!("https://iamcredentials.{DEFAULT_UNIVERSE}/v1/{name}/allowedLocations"))?;
        Ok(Self { source: Arc::new(source), lookup })
    }
}

/// The name of the pool of a provider: `projects/…/workloadIdentityPools/…`, or `locations/…/workforcePools/…`.
fn pool_of(audience: &str) -> Option<&str> {
    let (pool, provider) = audience.strip_prefix("//iam.googleapis.com/")?.split_once("/providers/")?;
    let sound = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<_> = pool.split('/').collect();
    let known = match *parts.as_slice() {
        ["projects", project, "locations", "global", "workloadIdentityPools", pool] => sound(project) && sound(pool),
        ["locations", "global", "workforcePools", pool] => sound(pool),
        _ => false,
    };
    (known && sound(provider)).then_some(pool)
}

impl TokenSource for RegionalAccess {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        let mint = self.source.mint(want, state);
        if want.kind() == WantKind::IdToken {
            return mint;
        }
        Box::new(Bounding { lookup: self.lookup.clone(), mint, stage: Stage::Mint })
    }

    fn first_state(&self) -> GrantState {
        self.source.first_state()
    }

    fn again(&self, error: &Error) -> Again {
        self.source.again(error)
    }

    fn may_change(&self, state: &GrantState) -> bool {
        self.source.may_change(state)
    }

    fn request_headers(&self) -> HeaderMap {
        self.source.request_headers()
    }
}

impl fmt::Debug for RegionalAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionalAccess").field("lookup", &Shown::name(self.lookup.as_str())).finish_non_exhaustive()
    }
}

struct Bounding {
    lookup: Endpoint,
    mint: Mint,
    stage: Stage,
}

enum Stage {
    Mint,
    Lookup(Box<Exchange<Option<HeaderValue>>>, Box<Token>),
    Ended,
}

impl Minting for Bounding {
    fn take_change(&mut self) -> Change {
        self.mint.take_change()
    }

    fn must_wait(&self) -> bool {
        self.mint.must_wait()
    }

    fn waiting(&self) -> Option<Waiting> {
        self.mint.waiting()
    }
}

impl Machine for Bounding {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            match &mut self.stage {
                Stage::Mint => {
                    let token = match ask!(&mut *self.mint, cx, reply) {
                        Ok(token) => token,
                        Err(error) => return self.end(Err(error)),
                    };
                    match lookup(&self.lookup, &token) {
                        Ok(exchange) => self.stage = Stage::Lookup(Box::new(exchange), Box::new(token)),
                        // What no request can show has no boundary either.
                        Err(_) => return self.end(Ok(token)),
                    }
                }
                Stage::Lookup(exchange, token) => {
                    let found = ask!(&mut **exchange, cx, reply);
                    let mut token = Token::clone(token);
                    if let Ok(Some(value)) = found {
                        token.add_request_headers(Arc::new(HeaderMap::from_iter([(HEADER, value)])));
                    }
                    return self.end(Ok(token));
                }
                Stage::Ended => return Step::Done(Err(Error::misuse("a mint"))),
            }
        }
    }
}

impl Bounding {
    fn end(&mut self, result: Result<Token, Error>) -> Step<Token> {
        self.stage = Stage::Ended;
        Step::Done(result)
    }
}

fn lookup(endpoint: &Endpoint, token: &Token) -> Result<Exchange<Option<HeaderValue>>, Error> {
    let request = Request::get("looking up the regional access boundary", endpoint).bearer(token)?;
    let exchange = request.exchange(|received| {
        let object = crate::json::object(received.response.body());
        let members =
            object.map_err(|_| Error::new(ErrorKind::InvalidResponse, "the answer is no JSON object"))?.members;
        let encoded = members.get("encodedLocations").and_then(|value| value.as_str());
        Ok(encoded.filter(|it| !it.is_empty() && *it != ANYWHERE).and_then(|it| HeaderValue::from_str(it).ok()))
    });
    Ok(exchange.total_time(PATIENCE))
}
