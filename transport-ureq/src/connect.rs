//! The parts of a connection: a proxy or TCP by ureq, our TLS, and around them a watch that knows whether any byte of
//! the request was written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use grantflow::Now;
use http::Uri;
use rustls::ClientConfig;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, NextTimeout, SocksConnector, TcpConnector,
    Transport,
};
use ureq::{Error, Timeout};

use crate::limit::Cancel;
use crate::tls::Tls;

/// A chain for one call. Without a configuration it has no TLS.
pub(crate) fn connector(tls: Option<Arc<ClientConfig>>, watch: Arc<Watch>) -> impl Connector {
    unwatched(tls).chain(Watching(watch))
}

/// The same for an agent that makes calls of a caller's own.
pub(crate) fn unwatched(tls: Option<Arc<ClientConfig>>) -> impl Connector {
    ().chain(SocksConnector::default())
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(Tls(tls))
}

/// What is to be known of one call while it is under way.
#[derive(Debug)]
pub(crate) struct Watch {
    target: Uri,
    start_before: Option<Now>,
    clocks: crate::Transport,
    cancel: Cancel,
    wrote: AtomicBool,
}

impl Watch {
    pub(crate) fn new(target: Uri, start_before: Option<Now>, clocks: crate::Transport, cancel: Cancel) -> Arc<Self> {
        Arc::new(Self { target, start_before, clocks, cancel, wrote: AtomicBool::new(false) })
    }

    /// Whether writing the request itself has begun; not counted is what a proxy or TLS needs before.
    pub(crate) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    pub(crate) fn is_late(&self) -> bool {
        self.start_before.is_some_and(|moment| self.clocks.now().has_reached(moment))
    }
}

#[derive(Debug)]
struct Watching(Arc<Watch>);

impl<In: Transport> Connector<In> for Watching {
    type Out = Either<In, Watched<In>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        // The chain also makes the connection to an HTTP proxy, which is not the one to watch.
        Ok(chained.map(|inner| match *details.uri == self.0.target {
            true => Either::B(Watched { inner, watch: self.0.clone() }),
            false => Either::A(inner),
        }))
    }
}

#[derive(Debug)]
struct Watched<T: Transport> {
    inner: T,
    watch: Arc<Watch>,
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !self.watch.wrote() && self.watch.is_late() {
            return Err(Error::Timeout(Timeout::Connect));
        }
        self.watch.wrote.store(true, Ordering::Relaxed);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match self.inner.await_input(timeout) {
            // To ureq, a broken connection and one cut by `Cancel` are the end of a body without a length.
            Ok(false) if self.watch.cancel.is_cancelled() => Err(io::Error::other("cancelled").into()),
            Err(Error::Io(error)) => Err(Error::Io(io::Error::other(error))),
            result => result,
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// The buffers held the request and the answer: they are wiped.
impl<T: Transport> Drop for Watched<T> {
    fn drop(&mut self) {
        let buffers = self.inner.buffers();
        buffers.input_consume(buffers.input().len());
        buffers.input_append_buf().fill(0);
        buffers.output().fill(0);
    }
}
