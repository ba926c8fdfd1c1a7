//! What a transport's own settings make of a client of reqwest's.

use std::time::Duration;

use grantflow::proxy::Proxies;
use reqwest::ClientBuilder;
use rustls::ClientConfig;

/// How requests name their sender, unless told.
pub(crate) const USER_AGENT: &str = concat!("grantflow-reqwest/", env!("CARGO_PKG_VERSION"));

/// What is this crate's own in each client, be it one of a transport's or one for a caller's requests.
pub(crate) struct Own {
    pub(crate) tls: ClientConfig,
    pub(crate) proxies: Proxies,
    pub(crate) user_agent: Option<String>,
    pub(crate) connect_timeout: Duration,
    /// Whether machines may run programs.
    #[cfg(feature = "programs")]
    pub(crate) programs: bool,
}

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
    pub(crate) fn client(&self) -> ClientBuilder {
        ClientBuilder::new()
            .user_agent(self.user_agent.as_deref().unwrap_or(USER_AGENT))
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .proxy(self.proxy())
            .tls_backend_preconfigured(self.tls.clone())
    }
}
