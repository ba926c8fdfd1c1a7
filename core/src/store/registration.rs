//! The registration of a client, made once for all processes that share a store, and managed there.

use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{RecordKey, StoreOp, StoreReply, Stored};
use crate::machine::{Effect, ask};
use crate::register::{ClientMetadata, ManageRegistration, RegisteredClient, Registration};
use crate::{Cx, Error, ErrorKind, Exchange, Issuer, Machine, Now, Reply, Step};

/// How long a lease must hold: for a request, its save, and some pauses.
const LEASE: Duration = Duration::from_secs(90);
/// How long to wait for others who work on the registration.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long between two tries to get a lease.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is tried to save what the server has changed.
const SAVES: u32 = 5;
/// The form of what is kept that this release reads.
const READER: u32 = 1;

/// The machine that finds the registration of a client at its server in the store, or registers the client and keeps
/// the registration. All processes and machines that share the store are one client, whose grants outlive each of them.
///
/// If the secret has expired, or the client's metadata is to change, the client is registered anew, or its registration
/// is changed where the server allows that.
///
/// ```no_run
/// use grantflow::register::{ClientMetadata, Registration};
/// use grantflow::store::RegistrationInStore;
/// use grantflow::{Client, Error, Machine, ServerMetadata};
///
/// # fn run<M: Machine>(_: M) -> Result<M::Output, Error> { Err(Error::new(grantflow::ErrorKind::Config, "")) }
/// fn client(server: &ServerMetadata) -> Result<Client, Error> {
///     let metadata = ClientMetadata::new().redirect_uris(["http://127.0.0.1/"]).token_endpoint_auth_method("none");
///     run(RegistrationInStore::new(Registration::new(server, metadata)?))?.client()
/// }
/// ```
///
/// The record lies under [`RecordKey::of_registration`], so that nothing of one server is ever shown to another. Work
/// on it takes a lease, since the token for a registration may change with each use. A registration that the store does
/// not take is handed out all the same, and [says so](RegisteredClient::save_error); [`keep`](Self::keep) tries again.
///
/// ```text
/// Begin ─▶ Load ─▶ (there, and as it should be: done)
///           └────▶ Lease ─▶ Load ─▶ [Manage] ─▶ [Register] ─▶ Save ─▶ Release ─▶ done
///                  ▲  │ busy                                  ▲  │ failed
///                  Wait                                       Pause
/// ```
#[derive(Debug)]
pub struct RegistrationInStore {
    key: RecordKey,
    work: Work,
    stage: Stage,
    until: Duration,
    saves: u32,
    /// The version that lies in the store.
    version: Option<u64>,
    /// What lies there, then what is to be put there.
    found: Option<RegisteredClient>,
    result: Option<Result<RegisteredClient, Error>>,
}

#[derive(Debug)]
enum Work {
    Ensure(Box<Registration>),
    Read,
    Update(ClientMetadata),
    Delete,
    Keep(Box<RegisteredClient>),
}

#[derive(Debug)]
enum Stage {
    Begin,
    Look,
    Wait,
    Lease,
    Load,
    Manage(Box<ManageRegistration>),
    Register(Box<Exchange<RegisteredClient>>),
    Delete(Box<Exchange<()>>),
    Save,
    Pause(Error),
    Forget,
    Release,
    Ended,
}

/// What lies in the store.
#[derive(Serialize, Deserialize)]
struct Kept {
    reader: u32,
    client: RegisteredClient,
}

impl RegistrationInStore {
    /// The registration at this server, made by this request if the store has none.
    pub fn new(registration: Registration) -> Self {
        Self::of(registration.issuer().clone(), Work::Ensure(Box::new(registration)))
    }

    /// Reads the registration anew from its server (RFC 7592, section 2.1). It is an error if the store has none.
    pub fn read(issuer: &Issuer) -> Self {
        Self::of(issuer.clone(), Work::Read)
    }

    /// Replaces the registered metadata (RFC 7592, section 2.2). It is an error if the store has no registration.
    ///
    /// ```
    /// use grantflow::Issuer;
    /// use grantflow::register::ClientMetadata;
    /// use grantflow::store::RegistrationInStore;
    ///
    /// let issuer = Issuer::new("https://as.example")?;
    /// let metadata = ClientMetadata::new().client_name("Calendar").redirect_uris(["http://127.0.0.1/"]);
    /// let machine = RegistrationInStore::update(&issuer, metadata);
    /// # let _ = (machine, RegistrationInStore::read(&issuer), RegistrationInStore::delete(&issuer));
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn update(issuer: &Issuer, metadata: ClientMetadata) -> Self {
        Self::of(issuer.clone(), Work::Update(metadata))
    }

    /// Deletes the registration at its server (RFC 7592, section 2.3) and in the store, and yields what it was. If it
    /// cannot be managed, or the server does not know it any more (401, 404), it is deleted in the store alone.
    pub fn delete(issuer: &Issuer) -> Self {
        Self::of(issuer.clone(), Work::Delete)
    }

    /// Keeps this registration in place of the one in the store: one that was made elsewhere, or that could not be
    /// saved.
    pub fn keep(client: RegisteredClient) -> Self {
        Self::of(client.issuer().clone(), Work::Keep(Box::new(client)))
    }

    /// Names one of several registrations at the same server; the name is empty by default.
    pub fn label(mut self, label: &str) -> Self {
        self.key = RecordKey::of_registration(self.key.issuer(), label);
        self
    }

    fn of(issuer: Issuer, work: Work) -> Self {
        let key = RecordKey::of_registration(&issuer, "");
        let stage = Stage::Begin;
        Self { key, work, stage, until: Duration::ZERO, saves: 0, version: None, found: None, result: None }
    }

    fn ask(&mut self, stage: Stage, op: StoreOp) -> Step<RegisteredClient> {
        self.stage = stage;
        Step::Do(Effect::Store(op))
    }

    fn load(&mut self, stage: Stage) -> Step<RegisteredClient> {
        let op = StoreOp::Load { key: self.key.clone() };
        self.ask(stage, op)
    }

    fn lease(&mut self) -> Step<RegisteredClient> {
        let op = StoreOp::Lease { key: self.key.clone(), time: LEASE };
        self.ask(Stage::Lease, op)
    }

    fn release(&mut self, result: Result<RegisteredClient, Error>) -> Step<RegisteredClient> {
        self.result = Some(result);
        let op = StoreOp::Release { key: self.key.clone() };
        self.ask(Stage::Release, op)
    }

    /// Takes over what lies in the store.
    fn read_found(&mut self, stored: Option<Stored>) -> Result<(), Error> {
        self.version = stored.as_ref().map(|stored| stored.version);
        self.found = match stored {
            Some(stored) => Some(read(&stored, &self.key)?),
            None => None,
        };
        Ok(())
    }

    /// Whether what was found is what is wanted.
    fn is_in_force(&self, now: Now) -> bool {
        match (&self.work, &self.found) {
            (Work::Ensure(wanted), Some(found)) => found.asked() == wanted.metadata() && !found.is_expired(now.wall),
            _ => false,
        }
    }

    /// What to do under the lease with what was found.
    fn begin_work(&mut self, now: Now) -> Result<Stage, Error> {
        if let Work::Keep(client) = &self.work {
            self.found = Some((**client).clone().with_save_error(None));
            return Ok(Stage::Save);
        }
        let found = match (&self.work, &self.found) {
            (Work::Ensure(registration), None) => return Ok(register(registration)),
            (_, None) => {
                let key = &self.key;
                return Err(Error::new(ErrorKind::Store, format!("there is no {key} in the store")));
            }
            (_, Some(found)) => found,
        };
        Ok(match &self.work {
            Work::Ensure(_) if self.is_in_force(now) => Stage::Release,
            Work::Ensure(wanted) if found.can_be_managed() => {
                Stage::Manage(Box::new(found.update(wanted.metadata().clone())?))
            }
            Work::Ensure(wanted) => register(wanted),
            Work::Read => Stage::Manage(Box::new(found.read()?)),
            Work::Update(metadata) => Stage::Manage(Box::new(found.update(metadata.clone())?)),
            Work::Delete if !found.can_be_managed() => Stage::Forget,
            Work::Delete | Work::Keep(_) => Stage::Delete(Box::new(found.delete()?)),
        })
    }

    /// Goes to a stage that needs no reply, or begins one that makes requests.
    fn go(&mut self, stage: Stage, cx: &mut Cx) -> Step<RegisteredClient> {
        match stage {
            Stage::Release => {
                let found = self.found.clone().ok_or_else(|| Error::misuse(DOING));
                self.release(found)
            }
            Stage::Save => self.save(cx.now()),
            Stage::Forget => match self.version {
                Some(expected) => {
                    let op = StoreOp::Delete { key: self.key.clone(), expected };
                    self.ask(Stage::Forget, op)
                }
                None => self.go(Stage::Release, cx),
            },
            stage => {
                self.stage = stage;
                self.resume(cx, Reply::Start)
            }
        }
    }

    /// Saves what the server has made of the registration.
    fn save(&mut self, now: Now) -> Step<RegisteredClient> {
        self.saves = self.saves.saturating_add(1);
        // What was deleted may have had any version: the clock is ahead of all of them.
        let first = || u64::try_from(now.wall.as_unix_millis()).unwrap_or(1);
        let version = self.version.map_or_else(first, |version| version.saturating_add(1));
        let written = self.found.as_ref().ok_or_else(|| Error::misuse(DOING)).and_then(|client| write(client, version));
        match written {
            Ok(stored) => {
                let op = StoreOp::Save { key: self.key.clone(), expected: self.version, stored };
                self.ask(Stage::Save, op)
            }
            Err(error) => self.release(Err(error)),
        }
    }

    /// Tries to save once more after a pause, or hands out what could not be saved.
    fn not_saved(&mut self, error: Error) -> Step<RegisteredClient> {
        if self.saves < SAVES {
            self.stage = Stage::Pause(error);
            return Step::Do(Effect::Sleep(PAUSE.saturating_mul(1 << self.saves.min(8))));
        }
        match (self.result.take(), self.found.take()) {
            (Some(result), _) => self.release(result),
            (None, Some(client)) => self.release(Ok(client.with_save_error(Some(error)))),
            (None, None) => self.release(Err(error)),
        }
    }

    /// After a change of the registration, or after one that did not succeed.
    fn managed(
        &mut self,
        outcome: Result<RegisteredClient, Error>,
        newest: RegisteredClient,
        cx: &mut Cx,
    ) -> Step<RegisteredClient> {
        let had = self.found.replace(newest);
        match (outcome, &self.work) {
            (Ok(client), Work::Ensure(wanted)) if client.is_expired(cx.now().wall) => {
                let stage = register(wanted);
                self.go(stage, cx)
            }
            (Ok(_), _) => self.go(Stage::Save, cx),
            // It knows nothing of the client any more.
            (Err(error), Work::Ensure(wanted)) if is_gone(&error) => {
                let stage = register(wanted);
                self.go(stage, cx)
            }
            // The token may be another one all the same.
            (Err(error), _) if self.has_other_token(had.as_ref()) => {
                self.result = Some(Err(error));
                self.go(Stage::Save, cx)
            }
            (Err(error), _) => self.release(Err(error)),
        }
    }

    fn has_other_token(&self, had: Option<&RegisteredClient>) -> bool {
        match (had, &self.found) {
            (Some(had), Some(found)) => !had.has_the_token_of(found),
            _ => false,
        }
    }
}

const DOING: &str = "keeping a registration";

fn register(registration: &Registration) -> Stage {
    Stage::Register(Box::new(registration.clone().exchange()))
}

/// Whether the server says that there is no such registration, or no such token for it (RFC 7592, section 2.1).
fn is_gone(error: &Error) -> bool {
    matches!(error.status(), Some(401 | 403 | 404 | 405 | 410))
}

/// Reads what lies in a store, and checks that it is of this server.
fn read(stored: &Stored, key: &RecordKey) -> Result<RegisteredClient, Error> {
    let wrong = |why: &str| Error::new(ErrorKind::Store, format!("the {key} in the store {why}"));
    let kept: Kept = serde_json::from_slice(&stored.value).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        wrong(&format!("cannot be read (line {line}, column {column}); delete it to register anew"))
    })?;
    if kept.reader > READER {
        return Err(wrong("was written by a newer release of grantflow: update this program"));
    }
    kept.client.check_issuer(key.issuer())?;
    Ok(kept.client)
}

fn write(client: &RegisteredClient, version: u64) -> Result<Stored, Error> {
    let mut value = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let kept = Kept { reader: READER, client: client.clone() };
    match serde_json::to_writer(&mut *value, &kept) {
        Ok(()) => Ok(Stored::new(version, mem::take(&mut *value))),
        Err(error) => {
            value.zeroize();
            Err(Error::new(ErrorKind::Store, "the registration cannot be written").with_source(error))
        }
    }
}

impl Machine for RegistrationInStore {
    type Output = RegisteredClient;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<RegisteredClient> {
        let now = cx.now();
        match &mut self.stage {
            Stage::Manage(machine) => {
                let outcome = ask!(&mut **machine, cx, reply);
                let newest = machine.newest().clone();
                return self.managed(outcome, newest, cx);
            }
            Stage::Register(exchange) => {
                return match ask!(&mut **exchange, cx, reply) {
                    Ok(client) => {
                        self.found = Some(client);
                        self.go(Stage::Save, cx)
                    }
                    Err(error) => self.release(Err(error)),
                };
            }
            Stage::Delete(exchange) => {
                return match ask!(&mut **exchange, cx, reply) {
                    Err(error) if !is_gone(&error) => self.release(Err(error)),
                    _ => self.go(Stage::Forget, cx),
                };
            }
            _ => {}
        }
        match (mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => {
                self.until = now.mono.saturating_add(PATIENCE);
                self.load(Stage::Look)
            }
            (Stage::Look, Reply::Store(StoreReply::Loaded(stored))) => match self.read_found(stored) {
                Ok(()) if self.is_in_force(now) => Step::Done(self.found.take().ok_or_else(|| Error::misuse(DOING))),
                Ok(()) => self.lease(),
                Err(error) => Step::Done(Err(error)),
            },
            (Stage::Wait, Reply::Slept) => self.lease(),
            (Stage::Lease, Reply::Store(StoreReply::Busy)) if now.mono < self.until => {
                self.stage = Stage::Wait;
                Step::Do(Effect::Sleep(PAUSE))
            }
            (Stage::Lease, Reply::Store(StoreReply::Busy)) => {
                let why = "another process works on this registration and does not end";
                Step::Done(Err(Error::new(ErrorKind::Timeout, why)))
            }
            (Stage::Lease, Reply::Store(StoreReply::Leased(_))) => self.load(Stage::Load),
            (Stage::Load, Reply::Store(StoreReply::Loaded(stored))) => {
                match self.read_found(stored).and_then(|()| self.begin_work(now)) {
                    Ok(stage) => self.go(stage, cx),
                    Err(error) => self.release(Err(error)),
                }
            }
            (Stage::Save, Reply::Store(StoreReply::Saved)) => match self.result.take() {
                Some(result) => self.release(result),
                None => self.go(Stage::Release, cx),
            },
            // Another process did not wait for the lease: what the server has told last is what holds.
            (Stage::Save, Reply::Store(StoreReply::Conflict)) if self.saves < SAVES => self.load(Stage::Save),
            (Stage::Save, Reply::Store(StoreReply::Loaded(stored))) => {
                self.version = stored.map(|stored| stored.version);
                self.save(now)
            }
            (Stage::Save, Reply::Store(StoreReply::Conflict)) => {
                self.not_saved(Error::new(ErrorKind::Store, "the stored registration keeps changing").transient())
            }
            (Stage::Save, Reply::Failed(failure)) => self.not_saved(failure.into()),
            (Stage::Pause(_), Reply::Slept) => self.load(Stage::Save),
            (Stage::Pause(error), _) => {
                self.saves = SAVES;
                self.not_saved(error)
            }
            (Stage::Forget, Reply::Store(StoreReply::Saved | StoreReply::Conflict)) => self.go(Stage::Release, cx),
            (Stage::Load | Stage::Forget, Reply::Failed(failure)) => self.release(Err(failure.into())),
            (Stage::Release, _) => Step::Done(self.result.take().unwrap_or_else(|| Err(Error::misuse(DOING)))),
            (Stage::Begin | Stage::Ended, _) => Step::Done(Err(Error::misuse(DOING))),
            (_, Reply::Failed(failure)) => Step::Done(Err(failure.into())),
            (_, Reply::Refused) => Step::Done(Err(Error::refused("Store"))),
            _ => Step::Done(Err(Error::misuse(DOING))),
        }
    }
}
