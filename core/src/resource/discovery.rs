//! Reading the metadata of a protected resource (RFC 9728, section 3).

use std::time::Duration;

use url::Url;

use super::metadata::MAX_METADATA;
use super::{Demand, ProtectedResource, ResourceMetadata};
use crate::exchange::{Received, Request};
use crate::machine::ask;
use crate::server::Namer;
use crate::{Cx, Endpoint, Error, ErrorKind, Exchange, Machine, Reply, Step};

/// How long a document is good for, and how long where it cannot be read anew.
const LIFE: Duration = Duration::from_secs(3600);
const ON_FAILURE: Duration = Duration::from_secs(24 * 3600);

/// The machine that reads the metadata of a protected resource.
///
/// ```text
/// the address in the challenge ──────────────────▶ done
/// the address's path ─there is none─▶ the root ─▶ done
/// ```
///
/// An answer that is no metadata, such as a page or another document, counts as none. A server that fails is an error,
/// and so is a document of another resource: neither is a reason to look elsewhere.
#[derive(Debug)]
pub struct ResourceDiscovery {
    resource: ProtectedResource,
    /// Where it may be, the last place first.
    places: Vec<Endpoint>,
    anew: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin(Option<Error>),
    Asked(Exchange<ResourceMetadata>),
    Ended,
}

impl ResourceDiscovery {
    /// From where the challenge says, if there is one; else from where the address says.
    pub(super) fn new(resource: &ProtectedResource, demand: Option<&Demand>) -> Self {
        let named = demand.and_then(|demand| demand.resource_metadata.as_deref());
        let (places, error) = match named.map_or_else(|| resource.places(), |named| Ok(vec![resource.named(named)?])) {
            Ok(places) => (places, resource.error.clone()),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { resource: resource.clone(), places, anew: demand.is_some(), stage: Stage::Begin(error) }
    }

    fn ask(&mut self) -> Result<Exchange<ResourceMetadata>, Error> {
        let place = self.places.pop().ok_or_else(|| Error::misuse("the discovery of a resource"))?;
        let request = Request::get("reading the resource's metadata", &place).max_body(MAX_METADATA);
        let (address, tolerated) = (self.resource.address.clone(), self.resource.tolerated);
        let exchange = request.may_be_old(LIFE, ON_FAILURE).exchange(move |received: Received<'_>| {
            ResourceMetadata::from_json_tolerating(received.response.body(), &address, tolerated)
        });
        Ok(if self.anew { exchange.anew() } else { exchange })
    }
}

impl ProtectedResource {
    /// The machine that reads the resource's metadata, and does no more.
    pub fn discover(&self) -> ResourceDiscovery {
        ResourceDiscovery::new(self, None)
    }

    /// Where the metadata is: between host and path, then at the root; the last one first.
    fn places(&self) -> Result<Vec<Endpoint>, Error> {
        let wrong = |e| Error::config("the resource's address is none").with_source(e);
        let url = Url::parse(self.endpoint.as_str()).map_err(wrong)?;
        let root = format!("{}/.well-known/oauth-protected-resource", url.origin().ascii_serialization());
        let path = url.path().strip_suffix('/').unwrap_or(url.path());
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut places = vec![Endpoint::new(&root)?];
        if !path.is_empty() || !query.is_empty() {
            places.push(Endpoint::new(&format!("{root}{path}{query}"))?);
        }
        Ok(places)
    }

    /// An address that the resource names.
    fn named(&self, address: &str) -> Result<Endpoint, Error> {
        Endpoint::new(address)?.named_by(self.namer(address))
    }

    /// Who named an address that the resource names: its own origin was chosen with it.
    pub(super) fn namer(&self, address: &str) -> Namer {
        match self.endpoint.is_local() {
            _ if self.is_of_origin(address) => Namer::Configured,
            true => Namer::StrangerHere,
            false => Namer::Stranger,
        }
    }
}

/// Whether there was an answer that is no metadata, so that there may be some elsewhere.
pub(super) fn is_none_here(error: &Error) -> bool {
    error.kind() != ErrorKind::Issuer
        && error.status().is_some_and(|status| matches!(status, 200..=299 | 400..=499) && status != 429)
}

impl Machine for ResourceDiscovery {
    type Output = ResourceMetadata;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<ResourceMetadata> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin(error), Reply::Start) => match error.take() {
                    Some(error) => Err(error),
                    None => self.ask(),
                },
                (Stage::Asked(exchange), _) => match ask!(exchange, cx, reply) {
                    Err(error) if is_none_here(&error) && !self.places.is_empty() => self.ask(),
                    found => {
                        self.stage = Stage::Ended;
                        return Step::Done(found);
                    }
                },
                (Stage::Begin(_) | Stage::Ended, _) => Err(Error::misuse("the discovery of a resource")),
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
