//! The settings of a transport. What keeps calls safe is set last, and cannot be changed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use grantflow::machine::Identity;
use grantflow::proxy::{Proxies, Proxy};
use grantflow::{Error, ErrorKind, Event, Secret};
use reqwest::ClientBuilder;

use crate::Transport;
use crate::identity::{Identities, Source};
use crate::own::{Http, Own};
use crate::resolve::Global;
use crate::tls::{self, Roots};
use crate::transport::Watch;

/// The time to connect, TLS included, by default.
const CONNECT: Duration = Duration::from_secs(10);

/// The settings of a [`Transport`], to be built.
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
    http: Option<Http>,
    proxies: Option<Proxies>,
    connect_timeout: Duration,
    roots: Roots,
    identities: BTreeMap<Box<str>, Source>,
    user_agent: Option<String>,
    watch: Option<Watch>,
    #[cfg(feature = "programs")]
    programs: Option<crate::program::Run>,
    pub(crate) global: Global,
    error: Option<Error>,
}

impl Transport {
    /// A transport with the defaults: the platform's root certificates, the proxies that the environment names (see
    /// [`Proxies::from_env`](grantflow::proxy::Proxies::from_env)), 10 s to connect.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the HTTP client cannot be made of these, or the environment names a proxy that
    /// cannot be used.
    pub fn new() -> Result<Self, Error> {
        Builder::default().build()
    }

    /// The settings of a transport, to be built.
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
            identities: BTreeMap::new(),
            user_agent: None,
            watch: None,
            #[cfg(feature = "programs")]
            programs: None,
            global: Global::default(),
            error: None,
        }
    }
}

impl Builder {
    /// Begins from the builder that this function makes: for a local address, a DNS resolver, keep-alive. It is called
    /// once for each of the few clients inside, and again for each client certificate. Calls to global addresses alone
    /// ([`Reach::Global`](grantflow::machine::Reach::Global)) use the system's resolver, except for names that the
    /// builder pins to addresses. This crate sets redirects, retries, TLS, decompression, the connect timeout and the
    /// proxy of calls to this machine all the same. The builder's proxies are asked first, and then those that the
    /// environment names, unless [`no_proxy`](Self::no_proxy) or [`proxy`](Self::proxy) is called.
    pub fn http(mut self, builder: impl Fn() -> ClientBuilder + Send + 'static) -> Self {
        self.http = Some(Box::new(builder));
        self
    }

    /// Sends requests to public addresses through this proxy, such as `http://user:password@proxy.example:3128`, and
    /// not through those that the environment names: see [`Proxy::new`]. The proxy sees which hosts are called, and
    /// nothing else.
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

    /// Sets how long to wait for a connection, TLS included; 10 s by default. It lies within the time of the call.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Trusts these root certificates too: one or several in PEM.
    pub fn root_certificate_pem(mut self, pem: &[u8]) -> Self {
        match tls::certificates(pem) {
            Ok(found) => self.roots.extra.extend(found),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Adds a client certificate and its key, both in PEM, under a name by which requests ask for it
    /// ([`Identity::named`](grantflow::machine::Identity::named)). The certificate comes first, and then those that
    /// lead to its root. A key with a password must be decrypted before. The last one of a name counts.
    ///
    /// ```
    /// # fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// use grantflow_reqwest::Transport;
    ///
    /// let certificate = std::fs::read_to_string("client.crt")?;
    /// let key = std::fs::read_to_string("client.key")?;
    /// let transport = Transport::builder().identity("gateway", &certificate, key).build()?;
    /// # let _ = transport;
    /// # Ok(()) }
    /// ```
    ///
    /// Each certificate has TLS sessions and connections of its own. It is also presented to an `https` proxy that asks
    /// for a certificate.
    pub fn identity(mut self, name: &str, certificate: &str, key: impl Into<Secret>) -> Self {
        self.identities.insert(name.into(), Source::Pem(Identity::pem(certificate, key)));
        self
    }

    /// Adds a client certificate as [`identity`](Self::identity) does, from two files in PEM that are read again at
    /// each use: they may be renewed while the program runs. If the new ones cannot be read or do not belong together,
    /// as while they are being written, the old ones are presented.
    pub fn identity_files(mut self, name: &str, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.identities.insert(name.into(), Source::files(certificate.as_ref(), key.as_ref()));
        self
    }

    /// Trusts Mozilla's root certificates, as of the crate `webpki-roots`, and not the platform's.
    #[cfg(feature = "bundled-roots")]
    pub fn bundled_roots(mut self) -> Self {
        self.roots.bundled = true;
        self
    }

    /// Sets the `User-Agent` of all requests; this crate's name and version by default.
    pub fn user_agent(mut self, value: &str) -> Self {
        if reqwest::header::HeaderValue::from_str(value).is_err() {
            let why = "the user agent holds characters that no header can carry";
            self.fail(Error::new(ErrorKind::Config, why));
        }
        self.user_agent = Some(value.to_owned());
        self
    }

    /// Lets machines run programs ([`Effect::Exec`](grantflow::Effect::Exec)), as a
    /// [`ProgramToken`](grantflow::source::ProgramToken) does. By default they are refused, since a program may do
    /// whatever this one may: let no file or server that you do not trust name one.
    ///
    /// A program that takes too long is killed: on Unix with the programs that it has started, on Windows by itself.
    #[cfg(feature = "programs")]
    pub fn allow_programs(mut self) -> Self {
        self.programs = Some(|program| Box::pin(crate::program::run(program)));
        self
    }

    /// Calls this function with every effect and reply, for a log or a test. Their `Debug` holds no secret.
    pub fn watch(mut self, watch: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Builds the transport.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if one of the settings cannot be used.
    pub fn build(mut self) -> Result<Transport, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (told, environment) = match self.proxies.take() {
            Some(proxies) => (true, proxies),
            None => (false, Proxies::from_env(std::env::var_os)?),
        };
        // Which of a caller's own proxies was asked is not known.
        let named = told || self.http.is_none();
        let own = Own {
            tls: tls::config(std::mem::take(&mut self.roots))?,
            proxies: environment,
            user_agent: self.user_agent.take(),
            connect_timeout: self.connect_timeout,
            #[cfg(feature = "programs")]
            programs: self.programs,
            http: self.http.take().map(Mutex::new),
            named,
            global: self.global,
        };
        let named = std::mem::take(&mut self.identities);
        let identities = Identities::new(named).map_err(|why| Error::new(ErrorKind::Config, why))?;
        Ok(Transport::with(own.clients(own.tls.clone())?, own, identities, self.watch))
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}
