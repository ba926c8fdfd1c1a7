//! A client of reqwest with a transport's own settings.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::proxy::Proxies;
use grantflow::{Error, ErrorKind, Failure};
use reqwest::{ClientBuilder, redirect, retry};
use rustls::ClientConfig;

use crate::resolve::Global;

/// How requests name their sender, by default.
pub(crate) const USER_AGENT: &str = concat!("grantflow-reqwest/", env!("CARGO_PKG_VERSION"));

/// The ways in which calls must be made: each has a client of its own.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// Public addresses, on connections that are kept for the next call.
    Pooled,
    /// Public addresses, each call on a connection of its own.
    Fresh,
    /// Global addresses alone, each call on a connection of its own, and through no proxy that is known.
    Global,
    /// This machine, each call on a connection of its own, and never through a proxy.
    Local,
}

/// The clients of one configuration of TLS. Each is made when it is first needed: a program seldom needs them all.
pub(crate) struct Clients {
    pub(crate) tls: ClientConfig,
    made: [OnceLock<Result<reqwest::Client, String>>; 4],
}

/// What is this crate's own in each client, be it one of a transport's or one for a caller's requests.
pub(crate) struct Own {
    pub(crate) tls: ClientConfig,
    pub(crate) proxies: Proxies,
    pub(crate) user_agent: Option<String>,
    pub(crate) connect_timeout: Duration,
    /// What runs programs, where machines may run some.
    #[cfg(feature = "programs")]
    pub(crate) programs: Option<crate::program::Run>,
    /// What the caller's clients begin with.
    pub(crate) http: Option<Mutex<Http>>,
    /// Whether its proxies are the only ones.
    pub(crate) named: bool,
    pub(crate) global: Global,
}

pub(crate) type Http = Box<dyn Fn() -> ClientBuilder + Send>;

impl Own {
    /// The proxies, as reqwest asks for them.
    pub(crate) fn proxy(&self) -> reqwest::Proxy {
        let proxies = self.proxies.clone();
        reqwest::Proxy::custom(move |url| {
            let target = url.as_str().parse().ok()?;
            proxies.of(&target).map(|proxy| proxy.url().expose().to_owned())
        })
    }

    /// A client for requests of a caller's own, to be adjusted.
    pub(crate) fn client(&self, tls: &ClientConfig) -> ClientBuilder {
        ClientBuilder::new()
            .user_agent(self.user_agent.as_deref().unwrap_or(USER_AGENT))
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .proxy(self.proxy())
            .tls_backend_preconfigured(tls.clone())
    }

    /// The clients of a transport, with this configuration of TLS.
    ///
    /// # Errors
    ///
    /// If what the caller's begin with cannot be used.
    pub(crate) fn clients(&self, tls: ClientConfig) -> Result<Clients, Error> {
        let clients = Clients { tls, made: Default::default() };
        if self.http.is_some() {
            let unusable = |why| Error::new(ErrorKind::Config, format!("the HTTP client: {why}"));
            self.client_for(&clients, Way::Pooled).map_err(unusable)?;
        }
        Ok(clients)
    }

    /// The client for calls of one way.
    pub(crate) fn way(&self, clients: &Clients, way: Way) -> Result<reqwest::Client, Failure> {
        let unusable = |why| Failure::not_sent(FailureKind::Other, format!("the HTTP client: {why}"));
        self.client_for(clients, way).map_err(unusable)
    }

    fn client_for(&self, clients: &Clients, way: Way) -> Result<reqwest::Client, String> {
        let public = || {
            let builder = self.adjusted(&clients.tls).https_only(true);
            let builder = if self.named { builder.no_proxy() } else { builder };
            // Without one of ours, reqwest would read the environment in a way of its own.
            builder.proxy(self.proxy())
        };
        let make = || match way {
            Way::Pooled => public(),
            Way::Fresh => public().pool_max_idle_per_host(0),
            Way::Global => public().pool_max_idle_per_host(0).dns_resolver(self.global.clone()),
            Way::Local => self.adjusted(&clients.tls).pool_max_idle_per_host(0).no_proxy(),
        };
        let made = clients.made[way as usize].get_or_init(|| make().build().map_err(|e| e.without_url().to_string()));
        made.clone()
    }

    /// What the caller's begins with, and what keeps calls safe.
    fn adjusted(&self, tls: &ClientConfig) -> ClientBuilder {
        let theirs = self.http.as_ref().map(|http| http.lock().unwrap_or_else(PoisonError::into_inner)());
        let builder = match (theirs, &self.user_agent) {
            (Some(builder), None) => builder,
            (Some(builder), Some(name)) => builder.user_agent(name),
            (None, name) => ClientBuilder::new().user_agent(name.as_deref().unwrap_or(USER_AGENT)),
        };
        builder
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(self.connect_timeout)
            // It would log what is sent.
            .connection_verbose(false)
            // A call that must not be repeated needs a connection of its own, which HTTP/2 does not give.
            .http1_only()
            .tls_backend_preconfigured(tls.clone())
    }
}
