//! For tests: a name server and an Internet of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grantflow::machine::Reach;

pub(crate) type Names = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// A name server that says what a test wants, and in the place of the Internet one port of this machine.
#[derive(Clone)]
pub(crate) struct Internet {
    pub(crate) names: Arc<Names>,
    pub(crate) asked: Arc<AtomicUsize>,
    /// Where every global address is.
    pub(crate) global: SocketAddr,
}

impl Internet {
    pub(crate) fn look_up(&self, name: &str) -> Vec<SocketAddr> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        (self.names)(name).into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
    }

    /// The port in a request's address would count for more than one that is found with the name.
    pub(crate) fn wire(&self, found: &mut [SocketAddr]) {
        for address in found.iter_mut().filter(|address| Reach::Global.permits_address(address.ip())) {
            *address = self.global;
        }
    }
}
