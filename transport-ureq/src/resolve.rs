//! Names and the addresses that they lead to: looked up once, checked, and only what was checked is connected to.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;

use grantflow::machine::Reach;
use http::Uri;
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as _};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

#[cfg(test)]
use crate::internet::Internet;

/// ureq's resolver, without the thread that it starts for the sake of its time limit where there is nothing to look up,
/// and with what a call's reach permits.
#[derive(Debug)]
pub(crate) struct Resolver {
    theirs: DefaultResolver,
    reach: Reach,
    /// The proxy of the call, which may be anywhere.
    proxy: Option<Uri>,
    #[cfg(test)]
    internet: Option<Internet>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::within(Reach::Public, None)
    }
}

impl Resolver {
    /// For a call that may go so far, through this proxy.
    pub(crate) fn within(reach: Reach, proxy: Option<Uri>) -> Self {
        Self {
            theirs: DefaultResolver::default(),
            reach,
            proxy,
            #[cfg(test)]
            internet: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn on(self, internet: Option<Internet>) -> Self {
        Self { internet, ..self }
    }

    fn look_up(&self, uri: &Uri, config: &Config, mut timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        #[cfg(test)]
        if let Some(internet) = &self.internet {
            return internet.look_up(uri);
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<IpAddr>().is_ok() {
            timeout.after = Duration::NotHappening;
        }
        self.theirs.resolve(uri, config, timeout)
    }
}

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.look_up(uri, config, timeout)?;
        if self.reach != Reach::Global || self.proxy.as_ref() == Some(uri) {
            return Ok(found);
        }
        let mut permitted = self.empty();
        for address in found.iter().filter(|address| self.reach.permits_address(address.ip())) {
            permitted.push(*address);
        }
        if permitted.is_empty() {
            return Err(Error::Other(Box::new(NotGlobal)));
        }
        #[cfg(test)]
        if let Some(internet) = &self.internet {
            return Ok(internet.wired(&permitted));
        }
        Ok(permitted)
    }
}

/// The host leads to no address that the call's reach permits.
#[derive(Debug)]
pub(crate) struct NotGlobal;

impl fmt::Display for NotGlobal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host leads to no global address, and the request may go nowhere else")
    }
}

impl StdError for NotGlobal {}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use grantflow::machine::FailureKind;
    use grantflow::{Call, Failure};

    use super::*;
    use crate::{Builder, Limit, Transport};

    /// A port of this machine that counts who connects.
    struct Port {
        address: SocketAddr,
        connections: Arc<AtomicUsize>,
    }

    impl Port {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
            let count = connections.clone();
            thread::spawn(move || {
                for _ in listener.incoming() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            Self { address, connections }
        }

        fn connections(&self) -> usize {
            thread::sleep(Duration::from_millis(20));
            self.connections.load(Ordering::SeqCst)
        }
    }

    fn on(mut builder: Builder, internet: &Internet) -> Builder {
        builder.internet = Some(internet.clone());
        builder
    }

    fn transport(names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static, global: &Port) -> (Transport, Internet) {
        let internet = Internet { names: Arc::new(names), asked: Arc::default(), global: global.address };
        let builder = Transport::builder().no_proxy().connect_timeout(Duration::from_secs(2));
        (on(builder, &internet).build().unwrap(), internet)
    }

    fn fetch(transport: &Transport, url: &str, reach: Reach) -> Failure {
        let call = Call::new(http::Request::get(url).body(Vec::new()).unwrap()).with_reach(reach);
        transport.fetch(call.with_timeout(Duration::from_secs(5)), &Limit::new()).unwrap_err()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_that_leads_inside_is_not_connected_to() {
        let (inside, outside) = (Port::new(), Port::new());
        for answer in [
            vec!["127.0.0.1"],
            vec!["::1", "127.0.0.1"],
            vec!["::ffff:127.0.0.1"],
            vec!["64:ff9b::7f00:1", "10.0.0.1", "169.254.169.254"],
        ] {
            let found = ips(&answer);
            let (transport, _) = transport(move |_| found.clone(), &outside);
            let url = format!("https://as.example:{}/token", inside.address.port());
            let failure = fetch(&transport, &url, Reach::Global);
            assert_eq!(failure.kind(), FailureKind::Forbidden, "{answer:?}: {failure}");
            assert!(!failure.may_have_been_sent() && failure.to_string().contains("no global address"), "{failure}");
        }
        assert_eq!((inside.connections(), outside.connections()), (0, 0));
        // What has another reach goes there.
        let (transport, _) = transport(|_| ips(&["127.0.0.1"]), &outside);
        let url = format!("https://as.example:{}/token", inside.address.port());
        assert_ne!(fetch(&transport, &url, Reach::Public).kind(), FailureKind::Forbidden);
        assert_eq!((inside.connections(), outside.connections()), (1, 0));
    }

    #[test]
    fn of_both_kinds_of_addresses_only_the_global_ones_are_connected_to() {
        let (inside, outside) = (Port::new(), Port::new());
        let (transport, _) = transport(|_| ips(&["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1"]), &outside);
        let failure = fetch(&transport, &format!("https://as.example:{}/", inside.address.port()), Reach::Global);
        assert_ne!(failure.kind(), FailureKind::Forbidden, "{failure}");
        assert_eq!((inside.connections(), outside.connections()), (0, 1));
    }

    #[test]
    fn a_name_server_that_changes_its_mind_is_asked_once_and_what_it_said_first_holds() {
        let (inside, outside) = (Port::new(), Port::new());
        let asked = AtomicUsize::new(0);
        let names = move |_: &str| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => ips(&["8.8.8.8"]),
            _ => ips(&["127.0.0.1"]),
        };
        let (transport, internet) = transport(names, &outside);
        let url = format!("https://as.example:{}/", inside.address.port());
        assert_ne!(fetch(&transport, &url, Reach::Global).kind(), FailureKind::Forbidden);
        assert_eq!((inside.connections(), outside.connections()), (0, 1));
        assert_eq!(internet.asked.load(Ordering::SeqCst), 1);
        // A later request looks it up anew, and is refused.
        assert_eq!(fetch(&transport, &url, Reach::Global).kind(), FailureKind::Forbidden);
        assert_eq!((inside.connections(), outside.connections()), (0, 1));
    }

    #[test]
    fn a_host_that_cannot_be_global_is_refused_before_it_is_looked_up() {
        let (inside, outside) = (Port::new(), Port::new());
        let (transport, internet) = transport(|_| ips(&["8.8.8.8"]), &outside);
        let port = inside.address.port();
        for host in ["127.0.0.1", "[::1]", "localhost", "a.localhost", "2130706433", "[::ffff:127.0.0.1]", "x.internal"]
        {
            let failure = fetch(&transport, &format!("https://{host}:{port}/"), Reach::Global);
            assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Forbidden, false), "{host}");
        }
        let failure = fetch(&transport, "http://as.example/", Reach::Global);
        assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Forbidden, false), "cleartext");
        assert_eq!((inside.connections(), outside.connections()), (0, 0));
        assert_eq!(internet.asked.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_proxy_may_be_anywhere_and_decides_about_names_but_no_literal_goes_through_it() {
        for scheme in ["http", "socks5", "socks4"] {
            let (proxy, outside) = (Port::new(), Port::new());
            let internet = Internet {
                names: Arc::new(|host| if host == "proxy.corp" { ips(&["127.0.0.1"]) } else { ips(&["8.8.8.8"]) }),
                asked: Arc::default(),
                global: outside.address,
            };
            let builder = Transport::builder().proxy(&format!("{scheme}://proxy.corp:{}", proxy.address.port()));
            let transport = on(builder, &internet).build().unwrap();
            let failure = fetch(&transport, "https://as.example/", Reach::Global);
            assert_ne!(failure.kind(), FailureKind::Forbidden, "{scheme}: {failure}");
            assert_eq!((proxy.connections(), outside.connections()), (1, 0), "{scheme}");
            for host in ["10.0.0.1", "[fd00::1]", "localhost", "metadata.google.internal"] {
                let failure = fetch(&transport, &format!("https://{host}/"), Reach::Global);
                assert_eq!(failure.kind(), FailureKind::Forbidden, "{scheme} {host}: {failure}");
            }
            assert_eq!((proxy.connections(), outside.connections()), (1, 0), "{scheme}");
        }
    }
}
