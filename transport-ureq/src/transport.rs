//! [`Transport`] and its [`Builder`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grantflow::machine::{FailureKind, Identity, Os, Platform};
use grantflow::proxy::{Proxies, Proxy};
use grantflow::{Cx, Error, ErrorKind, Event, Failure, Now, Secret, Timestamp};
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};

use crate::identity::{self, Identities, Source};
use crate::limit::LONGEST;
use crate::shared::Shared;
use crate::tls::Roots;

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The driver of machines on the calling thread: HTTP by ureq, sleep, environment variables and files. It is cheap to
/// clone, and any number of threads may use it at once.
///
/// Each HTTP call has a connection of its own, and TLS sessions are resumed. Redirects are never followed, cookies
/// never kept.
#[derive(Clone)]
pub struct Transport(Arc<Inner>, #[cfg(feature = "store")] Option<Arc<dyn grantflow_store::Store>>);

struct Inner {
    settings: Settings,
    roots: Roots,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    identities: Identities<ClientConfig>,
    watch: Option<Watcher>,
    origin: Instant,
    documents: Shared,
}

/// What goes for each HTTP call.
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// `None`: what the configuration says.
    pub(crate) proxies: Option<Proxies>,
    pub(crate) connect_timeout: Duration,
    pub(crate) user_agent: Option<String>,
    /// What runs programs, where machines may run some.
    #[cfg(feature = "programs")]
    pub(crate) programs: Option<crate::program::Run>,
    #[cfg(test)]
    pub(crate) internet: Option<crate::internet::Internet>,
}

type Watcher = Box<dyn Fn(Event<'_>) + Send + Sync>;

impl Transport {
    /// A transport with the defaults: the platform's root certificates, the proxies that the environment names (see
    /// [`Proxies::from_env`]), 10 s to connect.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the environment names a proxy that cannot be used.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// The settings of a transport, to be built.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// This transport, bound to a store: it can run machines that work on grants in a store, and its `TokenManager`s
    /// can mint from them. The leases of a run are given back however it ends.
    #[cfg(feature = "store")]
    pub fn with_store(&self, store: impl grantflow_store::Store + 'static) -> Self {
        Self(self.0.clone(), Some(Arc::new(store)))
    }

    #[cfg(feature = "store")]
    pub(crate) fn store(&self) -> Option<&dyn grantflow_store::Store> {
        self.1.as_deref()
    }

    /// A fresh context, for functions that need the time and randomness outside of a machine, such as
    /// [`PendingAuthorization::to_cookie`](grantflow::PendingAuthorization::to_cookie). For one use.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Entropy`] if the system gives no randomness.
    pub fn cx(&self) -> Result<Cx, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|e| Error::new(ErrorKind::Entropy, format!("the system gives no randomness: {e}")))?;
        Ok(Cx::new(self.now(), seed))
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now { wall: wall(), mono: self.0.origin.elapsed() }
    }

    /// The system that this program runs on.
    pub fn platform(&self) -> Platform {
        let os = if cfg!(windows) {
            Os::Windows
        } else if cfg!(target_os = "macos") {
            Os::MacOs
        } else {
            Os::Unix
        };
        Platform { os, home: std::env::home_dir().filter(|path| !path.as_os_str().is_empty()) }
    }

    pub(crate) fn documents(&self) -> &Shared {
        &self.0.documents
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The TLS configuration, made when it is needed for the first time.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let made = self.0.tls.get_or_init(|| self.0.roots.config().map(Arc::new));
        made.clone().map_err(|why| Failure::not_sent(FailureKind::Tls, why))
    }

    /// The TLS configuration that presents this certificate.
    pub(crate) fn tls_as(&self, identity: &Identity) -> Result<Arc<ClientConfig>, Failure> {
        let plain = self.tls()?;
        let make = |identity: &Identity| identity::presenting(&plain, identity);
        self.0.identities.get(identity, make).map_err(|why| Failure::not_sent(FailureKind::Tls, why))
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        #[cfg(feature = "tracing")]
        match &event {
            Event::Effect(effect) => tracing::debug!(?effect),
            Event::Reply(reply) => tracing::debug!(?reply),
            _ => {}
        }
        if let Some(watch) = &self.0.watch {
            watch(event);
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// All of a connection's buffers is written at the begin and wiped in the end: they are made as small as tokens are, and
/// not 128 KiB each. The head of an answer must fit; what Node's client takes is enough.
fn small_buffers() -> Config {
    let config = Agent::config_builder().max_response_header_size(HEAD);
    // A head over its limit must fit too, to be told from a connection that ends.
    config.input_buffer_size(HEAD + 4 * 1024).output_buffer_size(8 * 1024).build()
}

/// The most bytes of the head of an answer.
const HEAD: usize = 16 * 1024;

/// The settings of a [`Transport`].
///
/// ```
/// use grantflow_ureq::Transport;
/// use std::time::Duration;
///
/// let transport = Transport::builder()
///     .user_agent("my-program/1.0")
///     .connect_timeout(Duration::from_secs(5))
///     .watch(|event| eprintln!("{event:?}"))
///     .build()?;
/// # Ok::<(), grantflow_ureq::grantflow::Error>(())
/// ```
#[derive(Default)]
#[must_use = "build() makes the transport"]
pub struct Builder {
    http: Option<Config>,
    proxies: Option<Result<Proxies, Error>>,
    connect_timeout: Option<Duration>,
    user_agent: Option<String>,
    pem: Vec<Vec<u8>>,
    identities: BTreeMap<Box<str>, Source>,
    bundled: bool,
    #[cfg(feature = "programs")]
    programs: Option<crate::program::Run>,
    watch: Option<Watcher>,
    #[cfg(test)]
    pub(crate) internet: Option<crate::internet::Internet>,
}

impl Builder {
    /// Begins from this configuration of ureq. Redirects are not followed all the same, no status is an error,
    /// compression is not asked for, each call has its own total timeout and its own agent, and TLS is configured here.
    /// A proxy in the configuration is used; without one, those that the environment names are, unless
    /// [`no_proxy`](Self::no_proxy) is called. Its middleware sees every secret.
    pub fn http(mut self, config: Config) -> Self {
        self.http = Some(config);
        self
    }

    /// Sends requests through this proxy, such as `http://user:password@proxy.example:3128`, and not through those that
    /// the environment names: see [`Proxy::new`]. It is never used for loopback addresses.
    pub fn proxy(mut self, address: &str) -> Self {
        self.proxies = Some(Proxy::new(address).map(Proxies::all));
        self
    }

    /// Sends requests through no proxy, whatever the environment names.
    pub fn no_proxy(mut self) -> Self {
        self.proxies = Some(Ok(Proxies::default()));
        self
    }

    /// Sets the time to look an address up, and again to connect to it with TLS; 10 s each by default.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = Some(time);
        self
    }

    /// Trusts these root certificates too: one or several in PEM.
    pub fn root_certificate_pem(mut self, pem: &[u8]) -> Self {
        self.pem.push(pem.to_vec());
        self
    }

    /// Adds a client certificate and its key, both in PEM, under a name by which requests ask for it
    /// ([`Identity::named`](grantflow::machine::Identity::named)). The certificate comes first, and then those that
    /// lead to its root. A key with a password must be decrypted before. The last one of a name counts.
    ///
    /// ```
    /// # fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// use grantflow_ureq::Transport;
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

    /// Trusts the root certificates compiled in (Mozilla's), and not the platform's. Without feature `platform-roots`
    /// this is the default.
    #[cfg(feature = "bundled-roots")]
    pub fn bundled_roots(mut self) -> Self {
        self.bundled = true;
        self
    }

    /// Sets the `User-Agent` of requests; `grantflow-ureq/<version>` by default.
    pub fn user_agent(mut self, name: &str) -> Self {
        self.user_agent = Some(name.to_owned());
        self
    }

    /// Lets machines run programs ([`Effect::Exec`](grantflow::Effect::Exec)), as a
    /// [`ProgramToken`](grantflow::source::ProgramToken) does. By default they are refused, since a program may do
    /// whatever this one may: let no file or server that you do not trust name one.
    ///
    /// A program that takes too long is killed: on Unix with the programs that it has started, on Windows by itself.
    #[cfg(feature = "programs")]
    pub fn allow_programs(mut self) -> Self {
        self.programs = Some(crate::program::run);
        self
    }

    /// Calls this function with each effect and reply, on the thread of the run. Their `Debug` shows no secret.
    pub fn watch(mut self, watch: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Builds the transport.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if a proxy's address, given or from the environment, a certificate or a user agent
    /// cannot be used.
    pub fn build(self) -> Result<Transport, Error> {
        let wrong = |message: String| Error::new(ErrorKind::Config, message);
        let config = self.http.unwrap_or_else(small_buffers);
        let default_agent = matches!(config.user_agent(), AutoHeaderValue::Default).then(|| USER_AGENT.to_owned());
        let user_agent = self.user_agent.or(default_agent);
        if let Some(Err(_)) = user_agent.as_deref().map(HeaderValue::from_str) {
            return Err(wrong("the user agent holds characters that no header can carry".into()));
        }
        let proxies = match (self.proxies, config.proxy()) {
            (Some(told), _) => Some(told?),
            (None, Some(proxy)) if !proxy.is_from_env() => None,
            (None, _) => Some(Proxies::from_env(std::env::var_os)?),
        };
        let pem = |pem: &Vec<u8>| match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
            Ok(found) if found.is_empty() => Err(wrong("the root certificate: there is none in the PEM text".into())),
            Ok(found) => Ok(found),
            // The parser's own words quote the text.
            Err(_) => Err(wrong("the root certificate: it is not in PEM form, or its last line is missing".into())),
        };
        let extra = self.pem.iter().map(pem).collect::<Result<Vec<_>, _>>()?.concat();
        let inner = Arc::new(Inner {
            settings: Settings {
                connect_timeout: self
                    .connect_timeout
                    .or(config.timeouts().connect)
                    .unwrap_or(CONNECT_TIMEOUT)
                    .min(LONGEST),
                proxies,
                user_agent,
                #[cfg(feature = "programs")]
                programs: self.programs,
                config,
                #[cfg(test)]
                internet: self.internet,
            },
            roots: Roots { extra, platform: cfg!(feature = "platform-roots") && !self.bundled },
            tls: OnceLock::new(),
            identities: Identities::new(self.identities).map_err(wrong)?,
            watch: self.watch,
            origin: Instant::now(),
            documents: Shared::default(),
        });
        Ok(Transport(
            inner,
            #[cfg(feature = "store")]
            None,
        ))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}
