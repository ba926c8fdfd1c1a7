//! How a transport is adjusted. What keeps calls safe is set last, and cannot be adjusted.

use std::fmt;
use std::time::Duration;

use grantflow::proxy::{Proxies, Proxy};
use grantflow::{Error, ErrorKind, Event};
use reqwest::{ClientBuilder, redirect, retry};

use crate::Transport;
use crate::own::{Own, USER_AGENT};
use crate::tls::{self, Roots};
use crate::transport::{Clients, Watch};

/// The time to connect, TLS included, unless told.
const CONNECT: Duration = Duration::from_secs(10);

/// A [`Transport`] to be adjusted.
///
/// ```
/// use std::time::Duration;
/// use grantflow_reqwest::Transport;
///
/// let transport = Transport::builder()
///     .user_agent("my-program/1.0")
///     .connect_timeout(Duration::from_secs(5))
///     .watch(|event| eprintln!("{event:?}"))
///     .build()?;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[must_use = "build() makes the transport"]
pub struct Builder {
    http: Option<Box<dyn Fn() -> ClientBuilder + Send>>,
    proxies: Option<Proxies>,
    connect_timeout: Duration,
    roots: Roots,
    user_agent: Option<String>,
    watch: Option<Watch>,
    #[cfg(feature = "programs")]
    programs: bool,
    error: Option<Error>,
}

impl Transport {
    /// A transport with the defaults: the platform's root certificates, the proxies that the environment
    /// names (see [`Proxies::from_env`](grantflow::proxy::Proxies::from_env)), 10 s to connect.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the HTTP client cannot be made of them, or the environment names a proxy that
    /// cannot be used.
    pub fn new() -> Result<Self, Error> {
        Builder::default().build()
    }

    /// A transport to be adjusted.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            http: None,
            proxies: None,
            connect_timeout: CONNECT,
            roots: Roots::default(),
            user_agent: None,
            watch: None,
            #[cfg(feature = "programs")]
            programs: false,
            error: None,
        }
    }
}

impl Builder {
    /// Begins with what this makes: a local address, a DNS resolver, keep-alive. It is called once for each
    /// of the few clients inside. Redirects, retries, TLS, decompression and the connect timeout are this
    /// crate's all the same, as is the proxy of calls to this machine. Proxies that it names are asked first, and
    /// then those that the environment names, unless [`no_proxy`](Self::no_proxy) or [`proxy`](Self::proxy) is called.
    pub fn http(mut self, builder: impl Fn() -> ClientBuilder + Send + 'static) -> Self {
        self.http = Some(Box::new(builder));
        self
    }

    /// Uses this proxy for public addresses, such as `http://user:password@proxy.example:3128`, in place of
    /// those that the environment names: see [`Proxy::new`]. It sees which hosts are called, and nothing else.
    pub fn proxy(mut self, address: &str) -> Self {
        match Proxy::new(address) {
            Ok(proxy) => self.proxies = Some(Proxies::all(proxy)),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Uses no proxy, whatever the environment names.
    pub fn no_proxy(mut self) -> Self {
        self.proxies = Some(Proxies::default());
        self
    }

    /// How long to wait for a connection, TLS included; 10 s unless told. It lies within the time of the call.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Trusts these root certificates (PEM, one or more) as well.
    pub fn root_certificate_pem(mut self, pem: &[u8]) -> Self {
        match tls::certificates(pem) {
            Ok(found) => self.roots.extra.extend(found),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Trusts Mozilla's root certificates, as of the crate `webpki-roots`, in place of the platform's.
    #[cfg(feature = "bundled-roots")]
    pub fn bundled_roots(mut self) -> Self {
        self.roots.bundled = true;
        self
    }

    /// The `User-Agent` of all requests; this crate's name and version unless told.
    pub fn user_agent(mut self, value: &str) -> Self {
        self.user_agent = Some(value.to_owned());
        self
    }

    /// Lets machines run programs ([`Effect::Exec`](grantflow::Effect::Exec)), as a
    /// [`ProgramToken`](grantflow::source::ProgramToken) does. Unless this is called they are refused, since a program
    /// may do whatever this one may: let no file or server that you do not trust name one.
    ///
    /// A program that takes too long is killed, on Unix with those that it has started, on Windows by itself.
    #[cfg(feature = "programs")]
    pub fn allow_programs(mut self) -> Self {
        self.programs = true;
        self
    }

    /// Shows every effect and reply to `watch`, for a log or a test. Their `Debug` holds no secret.
    pub fn watch(mut self, watch: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Makes the transport.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if something given cannot be used.
    pub fn build(mut self) -> Result<Transport, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (told, environment) = match self.proxies.take() {
            Some(proxies) => (true, proxies),
            None => (false, Proxies::from_env(|name| std::env::var_os(name))?),
        };
        let own = Own {
            tls: tls::config(std::mem::take(&mut self.roots))?,
            proxies: environment,
            user_agent: self.user_agent.take(),
            connect_timeout: self.connect_timeout,
            #[cfg(feature = "programs")]
            programs: self.programs,
        };
        let public = || {
            let builder = self.client(&own).https_only(true);
            let builder = if told || self.http.is_none() { builder.no_proxy() } else { builder };
            // Without one of ours, reqwest would read the environment in a way of its own.
            builder.proxy(own.proxy())
        };
        let clients = Clients {
            pooled: finish(public())?,
            fresh: finish(public().pool_max_idle_per_host(0))?,
            local: finish(self.client(&own).pool_max_idle_per_host(0).no_proxy())?,
        };
        // Which of a caller's own was asked is not known.
        let named = told || self.http.is_none();
        Ok(Transport::with(clients, own, named, self.watch))
    }

    fn client(&self, own: &Own) -> ClientBuilder {
        let builder = match (&self.http, &own.user_agent) {
            (Some(http), None) => http(),
            (Some(http), Some(name)) => http().user_agent(name),
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
            .connect_timeout(own.connect_timeout)
            // It would log what is sent.
            .connection_verbose(false)
            // A call that must not be repeated needs a connection of its own, which HTTP/2 does not give.
            .http1_only()
            .tls_backend_preconfigured(own.tls.clone())
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

fn finish(builder: ClientBuilder) -> Result<reqwest::Client, Error> {
    builder.build().map_err(|e| Error::new(ErrorKind::Config, format!("the HTTP client: {}", e.without_url())))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}
