//! For tests: a name server and an Internet of their own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grantflow::machine::Reach;
use http::Uri;
use ureq::Error;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as _};

pub(crate) type Names = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// A name server that says what a test wants, and in the place of the Internet one port of this machine.
#[derive(Clone)]
pub(crate) struct Internet {
    pub(crate) names: Arc<Names>,
    pub(crate) asked: Arc<AtomicUsize>,
    /// Where every global address is.
    pub(crate) global: SocketAddr,
}

impl fmt::Debug for Internet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Internet")
    }
}

impl Internet {
    pub(crate) fn look_up(&self, uri: &Uri) -> Result<ResolvedSocketAddrs, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let host = uri.host().unwrap().trim_matches(['[', ']']);
        let found = host.parse().map_or_else(|_| (self.names)(host), |literal| vec![literal]);
        let mut all = DefaultResolver::default().empty();
        found.iter().for_each(|ip| all.push(SocketAddr::new(*ip, uri.port_u16().unwrap_or(443))));
        if all.is_empty() { Err(Error::HostNotFound) } else { Ok(all) }
    }

    pub(crate) fn wired(&self, addresses: &ResolvedSocketAddrs) -> ResolvedSocketAddrs {
        let mut all = DefaultResolver::default().empty();
        let here =
            |address: &SocketAddr| if Reach::Global.permits_address(address.ip()) { self.global } else { *address };
        addresses.iter().for_each(|address| all.push(here(address)));
        all
    }
}
