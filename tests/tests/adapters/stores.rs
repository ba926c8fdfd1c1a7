//! A store of files as machines reach it, blocking and async.

use std::sync::atomic::{AtomicBool, Ordering};

use grantflow::machine::FailureKind;
use grantflow::store::{RecordKey, StoreOp, StoreReply, Stored};
use grantflow::{Effect, Failure, Reply, Step, Timestamp};
use grantflow_ureq::grantflow_store::{FileStore, Lease, Store, conformance};

use super::*;

/// A store, each use of which is a run of the adapter.
struct Through<A>(Arc<A>);

/// Asks for one thing.
struct Ask(Option<StoreOp>);

impl Machine for Ask {
    type Output = StoreReply;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<StoreReply> {
        match (self.0.take(), reply) {
            (Some(op), _) => Step::Do(Effect::Store(op)),
            (None, Reply::Store(reply)) => Step::Done(Ok(reply)),
            (None, Reply::Failed(failure)) => Step::Done(Err(failure.into())),
            (None, reply) => panic!("{reply:?}"),
        }
    }
}

/// Takes a lease, tells whether it could, and ends without giving it back when it is told to.
struct Hold {
    op: Option<StoreOp>,
    told: mpsc::Sender<Option<Option<Timestamp>>>,
    over: Arc<AtomicBool>,
}

impl Machine for Hold {
    type Output = ();
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<()> {
        match (self.op.take(), reply) {
            (Some(op), _) => return Step::Do(Effect::Store(op)),
            (None, Reply::Store(StoreReply::Leased(until))) => self.told.send(Some(until)).unwrap(),
            (None, Reply::Slept) => {}
            (None, Reply::Store(StoreReply::Busy)) => {
                self.told.send(None).unwrap();
                return Step::Done(Ok(()));
            }
            (None, reply) => panic!("{reply:?}"),
        }
        let over = self.over.load(Ordering::SeqCst);
        if over { Step::Done(Ok(())) } else { Step::Do(Effect::Sleep(Duration::from_millis(1))) }
    }
}

/// The run that has a lease.
struct Held {
    over: Arc<AtomicBool>,
    run: Option<JoinHandle<Result<(), Error>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.run.take().unwrap().join().unwrap().unwrap();
    }
}

impl<A: Adapter> Through<A> {
    fn ask(&self, op: StoreOp) -> Result<StoreReply, Failure> {
        self.0.run(Ask(Some(op))).map_err(|error| Failure::not_sent(FailureKind::Store, error))
    }
}

impl<A: Adapter + Send + Sync + 'static> Store for Through<A> {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        match self.ask(StoreOp::Load { key: key.clone() })? {
            StoreReply::Loaded(found) => Ok(found),
            reply => panic!("{reply:?}"),
        }
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.ask(StoreOp::Save { key: key.clone(), expected, stored: stored.clone() }).map(changed)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.ask(StoreOp::Delete { key: key.clone(), expected }).map(changed)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let ((told, answer), over) = (mpsc::channel(), Arc::new(AtomicBool::new(false)));
        let hold = Hold { op: Some(StoreOp::Lease { key: key.clone(), time }), told, over: over.clone() };
        let adapter = self.0.clone();
        let held = Held { over, run: Some(std::thread::spawn(move || adapter.run(hold))) };
        Ok(answer.recv().unwrap().map(|until| Lease::new(until, held)))
    }
}

fn changed(reply: StoreReply) -> bool {
    match reply {
        StoreReply::Saved => true,
        StoreReply::Conflict => false,
        reply => panic!("{reply:?}"),
    }
}

pub(super) fn a_store_of_files_keeps_its_promises<A: Adapter + Send + Sync + 'static>() {
    let folder = std::env::temp_dir().join(format!(
        "grantflow-adapters-{}-{}",
        std::any::type_name::<A>().rsplit(':').next().unwrap(),
        std::process::id()
    ));
    let open = || Through(Arc::new(A::with_store(Arc::new(FileStore::new(&folder)))));
    conformance::check(open);
    std::fs::remove_dir_all(folder).unwrap();
}
