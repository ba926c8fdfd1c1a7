//! The grants of many people: listing and counting them, and ending them all.
//!
//! A store may not be able to: then the error says so.

use std::mem;

use super::{DeleteGrant, Page, RecordKey, SignOut, StoreOp, StoreReply, Which};
use crate::machine::{Effect, ask};
use crate::{Client, Cx, Error, Machine, Reply, ServerMetadata, Step};

/// How many grants are looked up at a time.
const PAGE: usize = 100;

/// Lists grants, a page at a time.
#[derive(Debug)]
pub struct ListGrants(Asking);

impl ListGrants {
    /// The first of these grants, at most so many.
    pub fn new(which: Which, most: usize) -> Self {
        Self(Asking::new(StoreOp::List { which, after: None, most }))
    }

    /// Those after this one, which was the last of the page before.
    pub fn after(mut self, key: &RecordKey) -> Self {
        if let Some(StoreOp::List { after, .. }) = &mut self.0.op {
            *after = Some(key.clone());
        }
        self
    }
}

impl Machine for ListGrants {
    type Output = Page;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Page> {
        self.0.resume(reply, "listing grants", |reply| match reply {
            StoreReply::Listed(page) => Some(page),
            _ => None,
        })
    }
}

/// Counts grants.
#[derive(Debug)]
pub struct CountGrants(Asking);

impl CountGrants {
    /// How many of these there are.
    pub fn new(which: Which) -> Self {
        Self(Asking::new(StoreOp::Count { which }))
    }
}

impl Machine for CountGrants {
    type Output = u64;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<u64> {
        self.0.resume(reply, "counting grants", |reply| match reply {
            StoreReply::Counted(count) => Some(count),
            _ => None,
        })
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

    fn resume<T>(&mut self, reply: Reply, what: &'static str, read: impl Fn(StoreReply) -> Option<T>) -> Step<T> {
        if let (Some(op), Reply::Start) = (self.op.take(), &reply) {
            self.asked = true;
            return Step::Do(Effect::Store(op));
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

/// What [`EndGrants`] did.
#[derive(Debug, Default)]
pub struct Ended {
    /// How many grants were ended.
    pub ended: u64,
    /// Those that were not, and why.
    pub failed: Vec<(RecordKey, Error)>,
}

/// Ends all grants of a person, of a session, or of a prefix of labels, one after another. A grant that cannot be
/// ended is told, and the others are ended all the same.
///
/// A grant that is kept while this runs may be missed: keep people from signing in first.
///
/// ```text
/// List ─▶ End ─▶ .. ─▶ End ─▶ List ─▶ .. ─▶ done
/// ```
#[derive(Debug)]
pub struct EndGrants {
    which: Which,
    how: How,
    stage: Stage,
    keys: Vec<RecordKey>,
    last: Option<RecordKey>,
    done: Ended,
}

#[derive(Debug)]
enum How {
    Delete,
    SignOut { server: Box<ServerMetadata>, client: Client },
}

#[derive(Debug)]
enum Stage {
    List(ListGrants),
    End(RecordKey, Ending),
    Over,
}

#[derive(Debug)]
enum Ending {
    Delete(Box<DeleteGrant>),
    SignOut(Box<SignOut>),
}

impl Machine for Ending {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        match self {
            Self::Delete(machine) => machine.resume(cx, reply),
            Self::SignOut(machine) => machine.resume(cx, reply),
        }
    }
}

impl EndGrants {
    /// Deletes them from the store. At the server they go on.
    pub fn delete(which: Which) -> Self {
        Self::new(which, How::Delete)
    }

    /// Revokes each where the server does so, and deletes it: see [`SignOut`]. Those of other servers and clients are
    /// told as failed.
    pub fn sign_out(which: Which, server: &ServerMetadata, client: &Client) -> Self {
        Self::new(which, How::SignOut { server: Box::new(server.clone()), client: client.clone() })
    }

    fn new(which: Which, how: How) -> Self {
        let stage = Stage::List(ListGrants::new(which.clone(), PAGE));
        Self { which, how, stage, keys: Vec::new(), last: None, done: Ended::default() }
    }

    /// Goes on with the next grant, or the next page, or not at all.
    fn next(&mut self) -> Stage {
        if let Some(key) = self.keys.pop() {
            let ending = match &self.how {
                How::Delete => Ending::Delete(Box::new(DeleteGrant::new(key.clone()))),
                How::SignOut { server, client } => Ending::SignOut(Box::new(SignOut::new(key.clone(), server, client))),
            };
            return Stage::End(key, ending);
        }
        let next = |last| Stage::List(ListGrants::new(self.which.clone(), PAGE).after(&last));
        self.last.take().map_or(Stage::Over, next)
    }
}

impl Machine for EndGrants {
    type Output = Ended;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Ended> {
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
                Stage::End(key, ending) => match ask!(ending, cx, reply) {
                    Ok(()) => self.done.ended = self.done.ended.saturating_add(1),
                    Err(error) => self.done.failed.push((key.clone(), error)),
                },
                Stage::Over => return Step::Done(Err(Error::misuse("ending grants"))),
            }
            self.stage = self.next();
            if let Stage::Over = self.stage {
                return Step::Done(Ok(mem::take(&mut self.done)));
            }
        }
    }
}
