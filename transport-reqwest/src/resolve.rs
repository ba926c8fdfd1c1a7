//! Names and the addresses that they lead to, for calls that may go to global addresses alone: looked up once,
//! checked, and only what was checked is connected to.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;

use grantflow::machine::Reach;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

#[cfg(test)]
use crate::internet::Internet;

/// A resolver that leaves out what is not global.
#[derive(Clone, Default)]
pub(crate) struct Global {
    #[cfg(test)]
    pub(crate) internet: Option<Internet>,
}

impl Global {
    async fn look_up(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        #[cfg(test)]
        if let Some(internet) = &self.internet {
            return Ok(internet.look_up(name));
        }
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

impl Resolve for Global {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let mut found = this.look_up(name.as_str()).await?;
            found.retain(|address| Reach::Global.permits_address(address.ip()));
            if found.is_empty() {
                return Err(NotGlobal.into());
            }
            #[cfg(test)]
            if let Some(internet) = &this.internet {
                internet.wire(&mut found);
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The host leads to no global address.
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
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use grantflow::machine::{FailureKind, Repeat};
    use grantflow::{Call, Failure};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Builder, Transport, http as wire};

    /// A port of this machine that counts who connects.
    struct Port {
        address: SocketAddr,
        connections: Arc<AtomicUsize>,
    }

    impl Port {
        /// At 127.0.0.1, or at 127.0.0.2 for what stands in the place of the Internet, where the ports are the same.
        async fn new(ip: [u8; 4], port: u16) -> Self {
            let listener = TcpListener::bind(SocketAddr::from((ip, port))).await.unwrap();
            let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
            let count = connections.clone();
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            Self { address, connections }
        }

        async fn inside() -> Self {
            Self::new([127, 0, 0, 1], 0).await
        }

        /// In the place of the Internet, at the port of this one.
        async fn outside(inside: &Self) -> Self {
            Self::new([127, 0, 0, 2], inside.address.port()).await
        }

        async fn connections(&self) -> usize {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.connections.load(Ordering::SeqCst)
        }
    }

    fn on(mut builder: Builder, internet: &Internet) -> Transport {
        builder.global.internet = Some(internet.clone());
        builder.build().unwrap()
    }

    fn transport(names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static, global: &Port) -> (Transport, Internet) {
        let internet = Internet { names: Arc::new(names), asked: Arc::default(), global: global.address };
        (on(Transport::builder().no_proxy(), &internet), internet)
    }

    async fn fetch(transport: &Transport, url: &str, reach: Reach, repeat: Repeat) -> Failure {
        let call = Call::new(http::Request::get(url).body(Vec::new()).unwrap()).with_reach(reach).with_repeat(repeat);
        wire::send(transport, call.with_timeout(Duration::from_secs(5))).await.unwrap_err()
    }

    async fn global(transport: &Transport, url: &str) -> Failure {
        fetch(transport, url, Reach::Global, Repeat::OnlyIfUnsent).await
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to() {
        let inside = Port::inside().await;
        let outside = Port::outside(&inside).await;
        let url = format!("https://as.example:{}/token", inside.address.port());
        for answer in [
            vec!["127.0.0.1"],
            vec!["::1", "127.0.0.1"],
            vec!["::ffff:127.0.0.1"],
            vec!["64:ff9b::7f00:1", "10.0.0.1", "169.254.169.254"],
        ] {
            for repeat in [Repeat::Freely, Repeat::OnlyIfUnsent] {
                let found = ips(&answer);
                let (transport, _) = transport(move |_| found.clone(), &outside);
                let failure = fetch(&transport, &url, Reach::Global, repeat).await;
                assert_eq!(failure.kind(), FailureKind::Forbidden, "{answer:?}: {failure}");
                assert!(
                    !failure.may_have_been_sent() && failure.to_string().contains("no global address"),
                    "{failure}"
                );
            }
        }
        assert_eq!((inside.connections().await, outside.connections().await), (0, 0));
    }

    #[tokio::test]
    async fn of_both_kinds_of_addresses_only_the_global_ones_are_connected_to() {
        let inside = Port::inside().await;
        let outside = Port::outside(&inside).await;
        let (transport, _) = transport(|_| ips(&["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1"]), &outside);
        let failure = global(&transport, &format!("https://as.example:{}/", inside.address.port())).await;
        assert_ne!(failure.kind(), FailureKind::Forbidden, "{failure}");
        assert_eq!((inside.connections().await, outside.connections().await), (0, 1));
    }

    #[tokio::test]
    async fn a_name_server_that_changes_its_mind_is_asked_once_and_what_it_said_first_holds() {
        let inside = Port::inside().await;
        let outside = Port::outside(&inside).await;
        let asked = AtomicUsize::new(0);
        let names = move |_: &str| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => ips(&["8.8.8.8"]),
            _ => ips(&["127.0.0.1"]),
        };
        let (transport, internet) = transport(names, &outside);
        let url = format!("https://as.example:{}/", inside.address.port());
        assert_ne!(global(&transport, &url).await.kind(), FailureKind::Forbidden);
        assert_eq!((inside.connections().await, outside.connections().await), (0, 1));
        assert_eq!(internet.asked.load(Ordering::SeqCst), 1);
        // A later request looks it up anew, and is refused.
        assert_eq!(global(&transport, &url).await.kind(), FailureKind::Forbidden);
        assert_eq!((inside.connections().await, outside.connections().await), (0, 1));
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_global_is_refused_before_it_is_looked_up() {
        let inside = Port::inside().await;
        let outside = Port::outside(&inside).await;
        let (transport, internet) = transport(|_| ips(&["8.8.8.8"]), &outside);
        let port = inside.address.port();
        for host in ["127.0.0.1", "[::1]", "localhost", "a.localhost", "2130706433", "[::ffff:127.0.0.1]", "x.internal"]
        {
            let failure = global(&transport, &format!("https://{host}:{port}/")).await;
            assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Forbidden, false), "{host}");
        }
        let failure = global(&transport, "http://as.example/").await;
        assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Forbidden, false), "cleartext");
        assert_eq!((inside.connections().await, outside.connections().await), (0, 0));
        assert_eq!(internet.asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_proxy_may_be_anywhere_and_decides_about_names_but_no_literal_goes_through_it() {
        for scheme in ["http", "socks5h"] {
            let proxy = Port::inside().await;
            let outside = Port::outside(&proxy).await;
            let names = |_: &str| ips(&["8.8.8.8"]);
            let internet = Internet { names: Arc::new(names), asked: Arc::default(), global: outside.address };
            let proxy_address = format!("{scheme}://localhost:{}", proxy.address.port());
            let transport = on(Transport::builder().proxy(&proxy_address), &internet);
            let failure = global(&transport, "https://as.example/").await;
            assert_ne!(failure.kind(), FailureKind::Forbidden, "{scheme}: {failure}");
            assert_eq!((proxy.connections().await, outside.connections().await), (1, 0), "{scheme}: {failure}");
            for host in ["10.0.0.1", "[fd00::1]", "localhost", "metadata.google.internal"] {
                let failure = global(&transport, &format!("https://{host}/")).await;
                assert_eq!(failure.kind(), FailureKind::Forbidden, "{scheme} {host}: {failure}");
            }
            assert_eq!((proxy.connections().await, outside.connections().await), (1, 0), "{scheme}");
        }
    }

    #[tokio::test]
    async fn a_builder_of_the_callers_own_changes_none_of_it() {
        let inside = Port::inside().await;
        let outside = Port::outside(&inside).await;
        let names = |_: &str| ips(&["127.0.0.1"]);
        let internet = Internet { names: Arc::new(names), asked: Arc::default(), global: outside.address };
        let builder = Transport::builder().http(|| reqwest::Client::builder().dns_resolver(Inside)).no_proxy();
        let url = format!("https://as.example:{}/", inside.address.port());
        let failure = global(&on(builder, &internet), &url).await;
        assert_eq!(failure.kind(), FailureKind::Forbidden, "{failure}");
        assert_eq!(inside.connections().await, 0);
    }

    struct Inside;

    impl Resolve for Inside {
        fn resolve(&self, _: Name) -> Resolving {
            let here = SocketAddr::from(([127, 0, 0, 1], 0));
            Box::pin(async move { Ok(Box::new(std::iter::once(here)) as Addrs) })
        }
    }
}
