//! One HTTP call, by its own rules.

use std::error::Error as StdError;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use grantflow::machine::{FailureKind, Identity, Open, Reach, Rules};
use grantflow::proxy::{Proxies, Proxy};
use grantflow::{Call, Failure};
use http::{Method, Request, Response, Uri};
use rustls::ClientConfig;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, Body, Error, SendBody};
use zeroize::Zeroizing;

use crate::connect::{Watch, connector, unwatched};
use crate::resolve::{NotGlobal, Resolver};
use crate::{Limit, Transport};

/// The room for a body whose length is not announced.
const FIRST_ROOM: usize = 8 * 1024;
/// The most room to make for one whose length is announced, before it comes.
const LARGE: usize = 1 << 20;

/// Why a request with a client certificate is not sent to an address with `http`.
const CLEARTEXT: &str = "a client certificate is presented over https alone";

impl Transport {
    /// An agent of ureq for requests of your own, with this transport's TLS, proxies, user agent and connect timeout.
    /// It follows no redirects, and a status is no error for it.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Transport`](grantflow::ErrorKind::Transport) if the root certificates cannot be loaded.
    pub fn agent(&self) -> Result<Agent, grantflow::Error> {
        Ok(self.agent_over(self.tls()?))
    }

    /// An agent that presents this certificate: for resources whose tokens are bound to it (RFC 8705, section 3). A
    /// certificate in files is read now.
    ///
    /// # Errors
    ///
    /// Those of [`agent`](Self::agent); and an error if the certificate cannot be used.
    pub fn agent_presenting(&self, identity: &Identity) -> Result<Agent, grantflow::Error> {
        Ok(self.agent_over(self.tls_as(identity)?))
    }

    fn agent_over(&self, tls: Arc<ClientConfig>) -> Agent {
        let settings = self.settings();
        let config = || {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(settings.connect_timeout));
            let config = match &settings.user_agent {
                Some(name) => config.user_agent(name),
                None => config,
            };
            config.proxy(settings.config.proxy().filter(|_| settings.proxies.is_none()).cloned())
        };
        let mut with_proxies = config();
        if let Some(proxies) = settings.proxies.clone() {
            with_proxies =
                with_proxies.middleware(Proxied { plain: Agent::new_with_config(config().build()), proxies });
        }
        Agent::with_parts(with_proxies.build(), unwatched(Some(tls)), Resolver::default())
    }

    /// Carries out a call, on a connection of its own.
    ///
    /// Requests for tokens are minutes apart, so a pool would mostly hold stale connections, on which
    /// nobody knows whether a request arrived; and a call alone on its connection and its agent can be
    /// cut, shares no cookie, and never delays another.
    pub(crate) fn fetch(&self, call: Call, limit: &Limit) -> Result<Response<Vec<u8>>, Failure> {
        let mut call = call.open(Rules::V1 | Rules::START_BEFORE | Rules::GLOBAL | Rules::IDENTITY)?;
        let uri = call.request.uri().clone();
        let secure = uri.scheme_str() == Some("https");
        if !secure && call.reach != Reach::Local {
            return Err(Failure::not_sent(FailureKind::Forbidden, "cleartext to a public address"));
        }
        if !call.reach.permits_host(uri.host().unwrap_or_default()) {
            return Err(Failure::not_sent(FailureKind::Forbidden, NotGlobal));
        }
        let watch = Watch::new(uri, call.start_before, self.clone(), limit.handle().clone());
        if watch.is_late() {
            return Err(Failure::not_sent(FailureKind::Timeout, "the time to begin has passed"));
        }
        let tls = match &call.identity {
            Some(_) if !secure => return Err(Failure::not_sent(FailureKind::Forbidden, CLEARTEXT)),
            Some(identity) => Some(self.tls_as(identity)?),
            None if secure => Some(self.tls()?),
            None => None,
        };
        let way = self.way(call.request.uri(), call.reach);
        let resolver = match call.reach {
            Reach::Global => Resolver::within(call.reach, way.uri()),
            _ => Resolver::default(),
        };
        #[cfg(test)]
        let resolver = resolver.on(self.settings().internet.clone());
        let agent = Agent::with_parts(self.settings().config.clone(), connector(tls, watch.clone()), resolver);
        let _guard = limit.handle().guard(&agent);
        let failed = |error| failure(&watch, error, way.name());
        let answer = self.send(&agent, &mut call, &way, limit).map_err(failed)?;
        let (head, body) = answer.into_parts();
        Ok(Response::from_parts(head, read(body, call.max_body, &failed)?))
    }

    fn way(&self, target: &Uri, reach: Reach) -> Way<'_> {
        let settings = self.settings();
        match (&settings.proxies, settings.config.proxy()) {
            _ if reach == Reach::Local => Way::Direct,
            (Some(proxies), _) => proxies.of(target).map_or(Way::Direct, Way::Through),
            (None, Some(proxy)) => Way::Theirs(proxy),
            (None, None) => Way::Direct,
        }
    }

    /// Sends the request with the settings that no configuration of the caller's may change. The body
    /// stays where it is: the call wipes it.
    fn send(&self, agent: &Agent, call: &mut Open, way: &Way<'_>, limit: &Limit) -> Result<Response<Body>, Error> {
        let mut head = Request::new(());
        *head.method_mut() = call.request.method().clone();
        *head.uri_mut() = call.request.uri().clone();
        *head.headers_mut() = std::mem::take(call.request.headers_mut());
        let settings = self.settings();
        let mut head = agent
            .configure_request(head)
            .http_status_as_error(false)
            .https_only(call.reach != Reach::Local)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .timeout_global(Some(call.timeout.min(limit.left())))
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout));
        if let Some(name) = &settings.user_agent {
            head = head.user_agent(name);
        }
        head = match way {
            Way::Direct => head.proxy(None),
            Way::Through(proxy) => head.proxy(Some(handed_over(proxy)?)),
            Way::Theirs(_) => head,
        };
        let head = head.build();
        if call.request.body().is_empty() && matches!(*head.method(), Method::GET | Method::HEAD) {
            return agent.run(head);
        }
        agent.run(head.map(|()| call.request.body().as_slice()))
    }
}

/// Reads a body up to its limit. Whenever it needs more room, what it held before is wiped.
fn read(body: Body, max: usize, failed: &impl Fn(Error) -> Failure) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::maybe_sent(FailureKind::TooLarge, format!("a body of more than {max} bytes"));
    let announced = body.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let mut content = Zeroizing::new(vec![0; announced.unwrap_or(FIRST_ROOM).min(max).min(LARGE) + 1]);
    let mut length = 0;
    let mut reader = body.into_reader();
    loop {
        let amount = reader.read(&mut content[length..]).map_err(|error| failed(error.into()))?;
        length += amount;
        if length > max {
            return Err(too_large());
        }
        if amount == 0 {
            content.truncate(length);
            return Ok(std::mem::take(&mut *content));
        }
        if length == content.len() {
            let mut larger = Zeroizing::new(vec![0; (2 * length).min(max.saturating_add(1))]);
            larger[..length].copy_from_slice(&content);
            content = larger;
        }
    }
}

/// How a request goes to its server.
enum Way<'a> {
    Direct,
    Through(&'a Proxy),
    /// Through the proxy of the caller's own configuration.
    Theirs(&'a ureq::Proxy),
}

impl Way<'_> {
    /// The proxy's address, as ureq looks it up.
    fn uri(&self) -> Option<Uri> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => handed_over(proxy).ok().map(|proxy| proxy.uri().clone()),
            Self::Theirs(proxy) => Some(proxy.uri().clone()),
        }
    }

    /// The proxy, without its password.
    fn name(&self) -> Option<String> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => Some(proxy.to_string()),
            Self::Theirs(proxy) => {
                let scheme = proxy.uri().scheme_str().unwrap_or_default();
                Some(format!("{scheme}://{}:{}", proxy.host(), proxy.port()))
            }
        }
    }
}

/// Handed to ureq, which keeps a copy.
fn handed_over(proxy: &Proxy) -> Result<ureq::Proxy, Error> {
    ureq::Proxy::new(proxy.url().expose())
}

/// Has each request of an agent go through the proxy that is meant for its address. ureq itself knows one for all.
struct Proxied {
    /// An agent of the same configuration, to configure requests by.
    plain: Agent,
    proxies: Proxies,
}

impl Middleware for Proxied {
    fn handle(&self, request: Request<SendBody<'_>>, next: MiddlewareNext<'_>) -> Result<Response<Body>, Error> {
        let proxy = self.proxies.of(request.uri()).map(handed_over).transpose()?;
        next.handle(self.plain.configure_request(request).proxy(proxy).build())
    }
}

/// A failure on the way through a proxy, which may be the proxy's and not the server's.
#[derive(Debug)]
struct OnTheWay(String, Box<dyn StdError + Send + Sync>);

impl fmt::Display for OnTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "through the proxy {}: {}", self.0, self.1)
    }
}

impl StdError for OnTheWay {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // What it holds is shown with it.
        self.1.source()
    }
}

/// What went wrong, and whether anything of the request had been written by then.
#[cold]
fn failure(watch: &Watch, error: Error, proxy: Option<String>) -> Failure {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let wrote = watch.wrote();
    let broken = if wrote { FailureKind::Broken } else { FailureKind::Connect };
    let (kind, mut source): (_, Box<dyn StdError + Send + Sync>) = match error {
        Error::Timeout(_) if !wrote && watch.is_late() => (FailureKind::Timeout, "the time to begin has passed".into()),
        Error::Timeout(_) => (FailureKind::Timeout, format!("no answer in the time allowed ({error})").into()),
        Error::Io(error) if matches!(error.kind(), TimedOut | WouldBlock) => (FailureKind::Timeout, error.into()),
        Error::Io(error) => (broken, error.into()),
        Error::HostNotFound | Error::ConnectionFailed | Error::ConnectProxyFailed(_) | Error::BodyStalled => {
            (broken, error.into())
        }
        Error::Tls(_) | Error::TlsRequired => (FailureKind::Tls, error.into()),
        Error::Other(source) if source.is::<NotGlobal>() => (FailureKind::Forbidden, source),
        // These come only from our own TLS.
        Error::Other(source) => (FailureKind::Tls, crate::tls::advised(source)),
        Error::LargeResponseHeader(..) => (FailureKind::TooLarge, error.into()),
        // They hold the whole address, with its query.
        Error::BadUri(_) | Error::RequireHttpsOnly(_) => (FailureKind::Forbidden, "the address cannot be used".into()),
        error => (FailureKind::Other, error.into()),
    };
    if let Some(proxy) = proxy
        && matches!(kind, FailureKind::Connect | FailureKind::Tls | FailureKind::Timeout | FailureKind::Broken)
    {
        source = Box::new(OnTheWay(proxy, source));
    }
    if wrote { Failure::maybe_sent(kind, source) } else { Failure::not_sent(kind, source) }
}
