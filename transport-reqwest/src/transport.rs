//! The transport: clients, clocks and entropy behind one handle.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grantflow::machine::{FailureKind, Identity, Os, Platform};
use grantflow::proxy::Proxy;
use grantflow::{Cx, Error, ErrorKind, Event, Failure, Now, Timestamp};
use tokio::time::Instant;

use crate::identity::{self, Identities};
use crate::own::{Clients, Own};
use crate::shared::Shared;

/// The driver of machines on `reqwest` and `tokio`. Cheap to clone; make one and share it.
///
/// A program runs machines with [`run`](Self::run), within a tokio runtime that has I/O and time enabled
/// (`enable_all()`, as `#[tokio::main]` does). If the runtime lacks one of them, each call is an error of kind
/// [`ErrorKind::Misuse`]; a program built with `panic = "abort"` then ends with tokio's message.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
    /// Whether each call goes on a connection of its own.
    unpooled: bool,
    #[cfg(feature = "store")]
    store: Option<Arc<dyn grantflow_store::Store>>,
}

struct Inner {
    clients: Arc<Clients>,
    own: Own,
    identities: Identities<Clients>,
    watch: Option<Watch>,
    origin: Instant,
    documents: Shared,
}

pub(crate) type Watch = Box<dyn Fn(Event<'_>) + Send + Sync>;

impl Transport {
    pub(crate) fn with(clients: Clients, own: Own, identities: Identities<Clients>, watch: Option<Watch>) -> Self {
        let inner = Arc::new(Inner {
            clients: Arc::new(clients),
            own,
            identities,
            watch,
            origin: Instant::now(),
            documents: Shared::default(),
        });
        Self {
            inner,
            unpooled: false,
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// This transport, bound to a store: it can run machines that work on grants in a store, and its `TokenManager`s
    /// can mint from them. The store works on tokio's threads for blocking work; the leases of a run are given back
    /// however it ends.
    #[cfg(feature = "store")]
    pub fn with_store(&self, store: impl grantflow_store::Store + 'static) -> Self {
        Self { store: Some(Arc::new(store)), ..self.clone() }
    }

    /// This transport, bound to a store whose methods are async, such as the `AsyncRedisStore` of crate
    /// `grantflow-store` (feature `redis-tokio`). The methods run to their ends even if the future that waits for them
    /// is dropped, so that no lease is lost.
    #[cfg(feature = "store")]
    pub fn with_async_store(&self, store: impl grantflow_store::AsyncStore + 'static) -> Self {
        let wait = |work: grantflow_store::Work<'_>| tokio::runtime::Handle::current().block_on(work);
        self.with_store(grantflow_store::Awaited::new(store, wait))
    }

    #[cfg(feature = "store")]
    pub(crate) fn store(&self) -> Option<Arc<dyn grantflow_store::Store>> {
        self.store.clone()
    }

    /// A fresh context for one call of core: both clocks, and entropy from the system.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Entropy`] if the system gives no randomness.
    pub fn cx(&self) -> Result<Cx, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|e| Error::new(ErrorKind::Entropy, format!("the system gives no randomness: {e}")))?;
        Ok(Cx::new(self.now(), seed))
    }

    /// As [`cx`](Self::cx), without entropy if there is none: most calls need none.
    pub(crate) fn any_cx(&self) -> Cx {
        self.cx().unwrap_or_else(|_| Cx::without_entropy(self.now()))
    }

    /// Both clocks. The monotonic one is tokio's, counted from when this transport was made.
    pub fn now(&self) -> Now {
        Now { wall: wall(), mono: self.inner.origin.elapsed() }
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

    /// A builder of reqwest for clients of your own, with this transport's TLS, proxies, user agent and connect
    /// timeout, over HTTP/1.1. It follows no redirects by default.
    ///
    /// A builder from [`reqwest::Client::builder`] needs a provider of cryptography for TLS, which this crate leaves to
    /// the program: without one, `build` panics. This builder has one.
    ///
    /// ```
    /// # fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let transport = grantflow_reqwest::Transport::new()?;
    /// let client = transport.client_builder().build()?;
    /// # let _ = client;
    /// # Ok(()) }
    /// ```
    pub fn client_builder(&self) -> reqwest::ClientBuilder {
        self.inner.own.client(&self.inner.own.tls)
    }

    /// A builder for clients that present this certificate: for resources whose tokens are bound to it (RFC 8705,
    /// section 3). A certificate in files is read now.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be used.
    pub async fn client_builder_presenting(&self, identity: &Identity) -> Result<reqwest::ClientBuilder, Error> {
        let clients = self.clients(Some(identity)).await?;
        Ok(self.inner.own.client(&clients.tls))
    }

    /// The proxy for a public address, but for those that a caller's own clients have.
    pub(crate) fn proxy(&self, target: &http::Uri) -> Option<&Proxy> {
        self.inner.own.proxies.of(target)
    }

    /// The way to a public address, if it may be through a proxy, in words. Its password is not shown.
    pub(crate) fn on_the_way(&self, target: &http::Uri) -> Option<String> {
        match (self.proxy(target), self.inner.own.named) {
            (Some(proxy), true) => Some(format!("through the proxy {proxy}")),
            (None, true) => None,
            // Of a client of reqwest's nobody can ask which proxies it has.
            (Some(proxy), false) => Some(format!("through the proxy {proxy}, or one of the program's own HTTP client")),
            (None, false) => Some("directly, or through a proxy of the program's own HTTP client".to_owned()),
        }
    }

    pub(crate) fn documents(&self) -> &Shared {
        &self.inner.documents
    }

    pub(crate) fn own(&self) -> &Own {
        &self.inner.own
    }

    /// The clients that present this certificate, or none.
    pub(crate) async fn clients(&self, identity: Option<&Identity>) -> Result<Arc<Clients>, Failure> {
        let Some(identity) = identity else { return Ok(self.inner.clients.clone()) };
        let made = if self.inner.identities.is_in_files(identity) {
            let (this, identity) = (self.clone(), identity.clone());
            let read = tokio::task::spawn_blocking(move || this.clients_as(&identity)).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        } else {
            self.clients_as(identity)
        };
        made.map_err(|why| Failure::not_sent(FailureKind::Tls, why))
    }

    fn clients_as(&self, identity: &Identity) -> Result<Arc<Clients>, String> {
        let own = &self.inner.own;
        self.inner.identities.get(identity, |identity| {
            own.clients(identity::presenting(&own.tls, identity)?).map_err(|error| error.to_string())
        })
    }

    /// Whether no connection may be kept.
    pub(crate) fn is_unpooled(&self) -> bool {
        self.unpooled
    }

    /// How long it may take until a request is written: both times to connect.
    #[cfg(feature = "manager")]
    pub(crate) fn time_to_begin(&self) -> Duration {
        self.inner.own.connect_timeout.saturating_mul(2)
    }

    /// This transport, on which each call goes on a connection of its own: for what runs in more than one runtime, since
    /// a connection that is kept is driven by the one that made it.
    #[cfg(feature = "manager")]
    pub(crate) fn unpooled(&self) -> Self {
        Self { unpooled: true, ..self.clone() }
    }

    /// Tells the observer.
    pub(crate) fn tell(&self, event: Event<'_>) {
        #[cfg(feature = "tracing")]
        match &event {
            Event::Effect(effect) => tracing::debug!(?effect),
            Event::Reply(reply) => tracing::debug!(?reply),
            _ => {}
        }
        if let Some(watch) = &self.inner.watch {
            watch(event);
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// The wall clock.
pub(crate) fn wall() -> Timestamp {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(time) => millis(time),
        Err(before) => -millis(before.duration()),
    })
}
