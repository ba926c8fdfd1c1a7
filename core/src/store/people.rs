//! The grants of many people: listing and counting them, ending them all, and writing them all anew.
//!
//! Not every store can do this: the error then says so.

use std::mem;

use super::key::NO_GRANT;
use super::{DeleteGrant, Page, RecordKey, RewriteGrant, SignOut, StoreOp, StoreReply, Which};
use crate::machine::{Effect, ask};
use crate::{Client, Cx, Error, Machine, Reply, ServerMetadata, Step};

/// How many grants are looked up at a time.
const PAGE: usize = 100;

/// The machine that lists grants, a page at a time. It leaves out DPoP keys and registrations, which lie in the store
/// too.
///
/// ```
/// use grantflow::store::{ListGrants, Which};
///
/// let machine = ListGrants::new(Which::label("tenant-7/"), 100);
/// # drop(machine);
/// ```
#[derive(Debug)]
pub struct ListGrants {
    which: Which,
    most: usize,
    asking: Asking,
    /// Whether what is no grant is listed too.
    all: bool,
}

impl ListGrants {
    /// The first page of these grants, with at most this many.
    pub fn new(which: Which, most: usize) -> Self {
        let asking = Asking::new(StoreOp::List { which: which.clone(), after: None, most });
        Self { which, most, asking, all: false }
    }

    /// Sets the last key of the page before, to get the next page.
    pub fn after(mut self, key: &RecordKey) -> Self {
        if let Some(StoreOp::List { after, .. }) = &mut self.asking.op {
            *after = Some(key.clone());
        }
        self
    }

    fn all(self) -> Self {
        Self { all: true, ..self }
    }
}

impl Machine for ListGrants {
    type Output = Page;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Page> {
        let step = self.asking.resume(reply, "listing grants", |reply| match reply {
            StoreReply::Listed(page) => Some(page),
            _ => None,
        });
        let Step::Done(Ok(mut page)) = step else { return step };
        let last = page.keys.last().cloned();
        if !self.all {
            page.keys.retain(|key| !key.is_no_grant());
        }
        if let (true, true, Some(last)) = (page.keys.is_empty(), page.more, last) {
            // A page without grants has none that the next one could be asked for after.
            let op = StoreOp::List { which: self.which.clone(), after: Some(last), most: self.most };
            return self.asking.ask(op);
        }
        Step::Done(Ok(page))
    }
}

/// The machine that counts grants. It leaves out [DPoP keys](super::DpopKeyInStore) and
/// [registrations](super::RegistrationInStore), which lie in the store too.
///
/// ```text
/// Count all ─▶ (count what is no grant among them, if there may be any) ─▶ done
/// ```
#[derive(Debug)]
pub struct CountGrants {
    asking: Asking,
    /// Of what is counted, how the labels begin of what may be no grant.
    others: Option<String>,
    /// How many there are, those included, once that is known.
    all: Option<u64>,
}

impl CountGrants {
    /// Counts these grants.
    pub fn new(which: Which) -> Self {
        let others = match &which {
            Which::Label(prefix) if NO_GRANT.starts_with(&**prefix) => Some(NO_GRANT.to_owned()),
            Which::Label(prefix) if prefix.starts_with(NO_GRANT) => Some(prefix.clone()),
            _ => None,
        };
        Self { asking: Asking::new(StoreOp::Count { which }), others, all: None }
    }
}

impl Machine for CountGrants {
    type Output = u64;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<u64> {
        let step = self.asking.resume(reply, "counting grants", |reply| match reply {
            StoreReply::Counted(count) => Some(count),
            _ => None,
        });
        let Step::Done(Ok(count)) = step else { return step };
        match (self.all, self.others.take()) {
            (Some(all), _) => Step::Done(Ok(all.saturating_sub(count))),
            (None, Some(others)) => {
                self.all = Some(count);
                self.asking.ask(StoreOp::Count { which: Which::label(others) })
            }
            (None, None) => Step::Done(Ok(count)),
        }
    }
}

/// One question to the store.
#[derive(Debug)]
struct Asking {
    op: Option<StoreOp>,
    asked: bool,
}

impl Asking {
    fn new(op: StoreOp) -> Self {
        Self { op: Some(op), asked: false }
    }

    /// Asks this now.
    fn ask<T>(&mut self, op: StoreOp) -> Step<T> {
        self.asked = true;
        Step::Do(Effect::Store(op))
    }

    fn resume<T>(&mut self, reply: Reply, what: &'static str, read: impl Fn(StoreReply) -> Option<T>) -> Step<T> {
        if let (Some(op), Reply::Start) = (self.op.take(), &reply) {
            return self.ask(op);
        }
        if !mem::take(&mut self.asked) {
            return Step::Done(Err(Error::misuse(what)));
        }
        Step::Done(match reply {
            Reply::Store(reply) => read(reply).ok_or_else(|| Error::misuse(what)),
            Reply::Failed(failure) => Err(failure.into()),
            Reply::Refused => Err(Error::refused("Store")),
            _ => Err(Error::misuse(what)),
        })
    }
}

/// The result of an operation on many grants.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The number of grants for which it succeeded.
    pub done: u64,
    /// The grants for which it failed, and why.
    pub failed: Vec<(RecordKey, Error)>,
}

/// The machine that ends all grants of a person, of a session, or of a prefix of labels, one after another. A grant
/// that cannot be ended is reported, and the others are ended all the same.
///
/// A grant that is kept while this runs may be missed: keep people from signing in first.
#[derive(Debug)]
pub struct EndGrants(Each);

impl EndGrants {
    /// Deletes the grants from the store. At the server they go on.
    pub fn delete(which: Which) -> Self {
        Self(Each::new(which, Work::Delete))
    }

    /// Revokes each grant, if the server can, and deletes it: see [`SignOut`]. Grants of other servers and clients are
    /// reported as failed.
    pub fn sign_out(which: Which, server: &ServerMetadata, client: &Client) -> Self {
        Self(Each::new(which, Work::SignOut { server: Box::new(server.clone()), client: client.clone() }))
    }

    /// Calls this function with the key of each grant as it ends, for other holders of that grant: such as the memory
    /// of this process, whose tokens are good until they expire.
    pub fn told(mut self, tell: impl FnMut(&RecordKey) + Send + 'static) -> Self {
        self.0.tell = Tell(Some(Box::new(tell)));
        self
    }
}

impl Machine for EndGrants {
    type Output = Outcome;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Outcome> {
        self.0.resume(cx, reply)
    }
}

/// The machine that writes all these grants once more, one after another, while they are in use: see [`RewriteGrant`].
#[derive(Debug)]
pub struct RewriteGrants(Each);

impl RewriteGrants {
    /// Writes these grants.
    pub fn new(which: Which) -> Self {
        Self(Each::new(which, Work::Rewrite))
    }
}

impl Machine for RewriteGrants {
    type Output = Outcome;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Outcome> {
        self.0.resume(cx, reply)
    }
}

/// The same work on each of many grants.
///
/// ```text
/// List ─▶ One ─▶ .. ─▶ One ─▶ List ─▶ .. ─▶ done
/// ```
#[derive(Debug)]
struct Each {
    which: Which,
    work: Work,
    stage: Stage,
    keys: Vec<RecordKey>,
    last: Option<RecordKey>,
    outcome: Outcome,
    tell: Tell,
}

/// Who is told of each that is done.
#[derive(Default)]
struct Tell(Option<Told>);

type Told = Box<dyn FnMut(&RecordKey) + Send>;

impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tell(..)" } else { "Tell(none)" })
    }
}

#[derive(Debug)]
enum Work {
    Delete,
    Rewrite,
    SignOut { server: Box<ServerMetadata>, client: Client },
}

impl Work {
    /// What is no grant is written anew as grants are, and outlives them.
    fn list(&self, which: &Which) -> ListGrants {
        let list = ListGrants::new(which.clone(), PAGE);
        if let Self::Rewrite = self { list.all() } else { list }
    }
}

#[derive(Debug)]
enum Stage {
    List(ListGrants),
    One(RecordKey, One),
    Over,
}

#[derive(Debug)]
enum One {
    Delete(Box<DeleteGrant>),
    Rewrite(Box<RewriteGrant>),
    SignOut(Box<SignOut>),
}

impl Machine for One {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        match self {
            Self::Delete(machine) => machine.resume(cx, reply),
            Self::Rewrite(machine) => machine.resume(cx, reply),
            Self::SignOut(machine) => machine.resume(cx, reply),
        }
    }
}

impl Each {
    fn new(which: Which, work: Work) -> Self {
        let stage = Stage::List(work.list(&which));
        Self { which, work, stage, keys: Vec::new(), last: None, outcome: Outcome::default(), tell: Tell::default() }
    }

    /// Goes on with the next grant, or the next page, or not at all.
    fn next(&mut self) -> Stage {
        if let Some(key) = self.keys.pop() {
            let one = match &self.work {
                Work::Delete => One::Delete(Box::new(DeleteGrant::new(key.clone()))),
                Work::Rewrite => One::Rewrite(Box::new(RewriteGrant::new(key.clone()))),
                Work::SignOut { server, client } => One::SignOut(Box::new(SignOut::new(key.clone(), server, client))),
            };
            return Stage::One(key, one);
        }
        let next = |last| Stage::List(self.work.list(&self.which).after(&last));
        self.last.take().map_or(Stage::Over, next)
    }

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Outcome> {
        loop {
            match &mut self.stage {
                Stage::List(list) => match ask!(list, cx, reply) {
                    Ok(Page { mut keys, more }) => {
                        self.last = keys.last().filter(|_| more).cloned();
                        keys.reverse();
                        self.keys = keys;
                    }
                    Err(error) => {
                        self.stage = Stage::Over;
                        return Step::Done(Err(error));
                    }
                },
                Stage::One(key, one) => match ask!(one, cx, reply) {
                    Ok(()) => {
                        self.outcome.done = self.outcome.done.saturating_add(1);
                        if let Tell(Some(tell)) = &mut self.tell {
                            tell(key);
                        }
                    }
                    Err(error) => self.outcome.failed.push((key.clone(), error)),
                },
                Stage::Over => return Step::Done(Err(Error::misuse("working on many grants"))),
            }
            self.stage = self.next();
            if let Stage::Over = self.stage {
                return Step::Done(Ok(mem::take(&mut self.outcome)));
            }
        }
    }
}
