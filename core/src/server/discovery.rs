//! Discovery: reading the metadata of a server.

use std::time::Duration;

use super::address::Namer;
use super::{Endpoint, Issuer, MAX_METADATA, ServerMetadata, tenant_parts};
use crate::exchange::{Received, Request};
use crate::machine::ask;
use crate::{Cx, Deviations, Error, ErrorKind, Exchange, Machine, Reply, Step};

/// How long metadata, and the word that there is none at an address, is good for.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long it does where it cannot be read anew.
const ON_FAILURE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The machine that reads a server's metadata, from the addresses that its issuer determines.
///
/// ```text
/// OpenID ─no metadata of this issuer─▶ OAuth ─▶ done
///    ▲                                   │
///    └── once, if an answer was old ◀────┘
/// ```
///
/// Metadata may come from the transport's memory of documents (see [`Call::may_be_old`](crate::Call::may_be_old)): it
/// may be a day old, and a month where it cannot be read anew. An address that had no metadata is not asked again as
/// long as the other address has some; one that failed, as with status 500, then causes no delay.
///
/// ```
/// use grantflow::{Discovery, Issuer};
///
/// let issuer = Issuer::new("https://as.example/realms/demo")?;
/// let machine = Discovery::new(&issuer); // for a server of which nothing else is known
/// # let _ = machine;
/// # let _ = (Discovery::openid(&issuer), Discovery::oauth(&issuer), Discovery::mcp(&issuer));
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Debug)]
pub struct Discovery {
    issuer: Issuer,
    tolerated: Deviations,
    namer: Namer,
    /// The issuer's name where it is of many tenants.
    tenants: Option<Box<str>>,
    /// Where it may be, in the order in which that is asked.
    places: &'static [Where],
    /// Which of them is asked.
    at: usize,
    stage: Stage,
    /// The outcomes of the addresses before.
    first: Option<Error>,
    /// Whether an answer was an old one, and whether none may be.
    was_old: bool,
    anew: bool,
}

#[allow(clippy::large_enum_variant, reason = "it is this large for all but its first and last moment")]
#[derive(Debug)]
enum Stage {
    Begin,
    Asked(Exchange<ServerMetadata>),
    Ended,
}

/// An address that metadata may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    OpenId,
    OAuth,
    /// OpenID Connect's document where OAuth's would be (RFC 8414, section 5).
    OpenIdInserted,
}

impl Discovery {
    /// Reads from `/.well-known/openid-configuration`, and if that has no metadata of this issuer, from
    /// `/.well-known/oauth-authorization-server`. An error tells of both addresses.
    pub fn new(issuer: &Issuer) -> Self {
        Self::at(issuer, &[Where::OpenId, Where::OAuth])
    }

    /// Reads only from `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
    pub fn openid(issuer: &Issuer) -> Self {
        Self::at(issuer, &[Where::OpenId])
    }

    /// Reads only from `/.well-known/oauth-authorization-server` (RFC 8414, section 3).
    pub fn oauth(issuer: &Issuer) -> Self {
        Self::at(issuer, &[Where::OAuth])
    }

    /// Reads in the order that the Model Context Protocol demands (Authorization, "Authorization Server Metadata
    /// Discovery"): `oauth-authorization-server` and `openid-configuration` in front of the issuer's path (RFC 8414,
    /// sections 3.1 and 5), then `openid-configuration` behind it.
    pub fn mcp(issuer: &Issuer) -> Self {
        Self::at(issuer, &[Where::OAuth, Where::OpenIdInserted, Where::OpenId])
    }

    /// Reads the metadata of an issuer that a stranger named, and not the program's configuration, such as one in a
    /// resource server's document (RFC 9728, section 2). Requests for the metadata, and to all that it names, go to
    /// global addresses alone. See [`ServerMetadata::of_stranger`].
    pub fn of_stranger(issuer: &Issuer) -> Self {
        Self::new(issuer).named_by(Namer::Stranger)
    }

    /// The same with this one who named the issuer.
    pub(crate) fn named_by(self, namer: Namer) -> Self {
        Self { namer, ..self }
    }

    /// Sets which deviations from the standard to tolerate from this server, in its metadata and in its other answers;
    /// [`Deviations::TOLERATED`] by default.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.tolerated = deviations;
        self
    }

    /// Accepts a document of many tenants, which names no single issuer, such as that of Entra's `common`. `issuers` is
    /// the issuer with the claim that names the tenant in braces, as in `https://login.microsoftonline.com/{tid}/v2.0`.
    /// The document must name this issuer; the word in its own braces may be another. An ID token must then be of the
    /// issuer of its own tenant. The application decides which tenants may sign in, by that claim.
    ///
    /// ```
    /// use grantflow::{Discovery, Issuer};
    ///
    /// let common = Issuer::new("https://login.microsoftonline.com/common/v2.0")?;
    /// let discovery = Discovery::new(&common).issuer_of_tenants("https://login.microsoftonline.com/{tid}/v2.0");
    /// # let _ = discovery;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn issuer_of_tenants(mut self, issuers: &str) -> Self {
        self.tenants = Some(issuers.into());
        self
    }

    /// Takes no old answer.
    pub(crate) fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    fn at(issuer: &Issuer, places: &'static [Where]) -> Self {
        let (issuer, tolerated) = (issuer.clone(), Deviations::TOLERATED);
        Self {
            issuer,
            tolerated,
            namer: Namer::Configured,
            tenants: None,
            places,
            at: 0,
            stage: Stage::Begin,
            first: None,
            was_old: false,
            anew: false,
        }
    }

    /// The address of one of the places, if there is one so far.
    fn address(&self, at: usize) -> Option<Result<Endpoint, Error>> {
        Some(match self.places.get(at)? {
            Where::OpenId => self.issuer.appended("openid-configuration"),
            Where::OAuth => self.issuer.inserted("oauth-authorization-server"),
            Where::OpenIdInserted => self.issuer.inserted("openid-configuration"),
        })
    }

    /// The next place, passing over one that has the same address.
    fn next(&self) -> Option<usize> {
        let own = self.address(self.at)?.ok();
        let later = self.at.saturating_add(1)..self.places.len();
        later.into_iter().find(|at| self.address(*at).and_then(Result::ok) != own)
    }

    fn exchange(&self) -> Result<Exchange<ServerMetadata>, Error> {
        let (issuer, tolerated, namer) = (self.issuer.clone(), self.tolerated, self.namer);
        let tenants = self.tenants.clone();
        if tenants.as_deref().is_some_and(|tenants| tenant_parts(tenants).is_none()) {
            return Err(Error::config(
                "the issuers' name needs one claim in braces, as in https://login.example/{tid}",
            ));
        }
        let endpoint = self.address(self.at).unwrap_or_else(|| Err(Error::misuse("discovery")))?.named_by(namer)?;
        let request = Request::get("reading the server's metadata", &endpoint).max_body(MAX_METADATA);
        let request = request.may_be_old(LIFE, ON_FAILURE);
        // Of more than two addresses none is passed over for another.
        let request = match (self.places, self.at) {
            ([_, other], 0) if *other == Where::OAuth => {
                request.or_at(&self.issuer.inserted("oauth-authorization-server")?)
            }
            _ => request,
        };
        let exchange = request.exchange(move |received: Received<'_>| {
            let metadata = ServerMetadata::read(received.response.body(), &issuer, tolerated, tenants.as_deref())?;
            metadata.named_by(namer)
        });
        Ok(if self.anew { exchange.anew() } else { exchange })
    }

    /// What to ask after this error, if there is anything left.
    fn after(&mut self, error: Error) -> Result<Exchange<ServerMetadata>, Error> {
        match (self.next(), self.first.take()) {
            (Some(next), before) if is_not_here(&error) => {
                self.first = Some(match before {
                    Some(before) => both(before, error),
                    None => error,
                });
                self.at = next;
            }
            // What was remembered may have changed.
            _ if self.was_old && !self.anew && !error.is_transient() => {
                self.anew = true;
                self.at = 0;
            }
            (_, Some(first)) => return Err(both(first, error)),
            (_, None) => return Err(error),
        }
        self.exchange()
    }
}

/// Whether there was an answer that is no metadata, by which the other address may still have some. A server
/// that cannot be reached, or is busy, is so at both.
fn is_not_here(error: &Error) -> bool {
    error.status().is_some_and(|status| !matches!(status, 429 | 503))
}

impl Machine for Discovery {
    type Output = ServerMetadata;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<ServerMetadata> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => self.exchange(),
                (Stage::Asked(exchange), _) => {
                    let found = ask!(exchange, cx, reply);
                    self.was_old |= exchange.was_old();
                    match found {
                        Ok(metadata) => {
                            self.stage = Stage::Ended;
                            return Step::Done(Ok(metadata));
                        }
                        Err(error) => self.after(error),
                    }
                }
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("discovery")),
            };
            match next {
                Ok(exchange) => self.stage = Stage::Asked(exchange),
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}

/// The error of two addresses: the one that tells more, and the other one with it.
fn both(first: Error, second: Error) -> Error {
    let weight = |error: &Error| match error.kind() {
        _ if error.is_transient() => 3,
        ErrorKind::Issuer => 2,
        ErrorKind::InvalidResponse if error.status() == Some(200) => 1,
        _ => 0,
    };
    if weight(&first) > weight(&second) { first.beside(&second) } else { second.beside(&first) }
}
