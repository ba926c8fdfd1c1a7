//! Stores as machines reach them, blocking and async, and what others do to them in the middle.

use std::sync::atomic::{AtomicBool, Ordering};

use grantflow::google::{AuthorizedUser, ExternalUser};
use grantflow::machine::FailureKind;
use grantflow::source::{Credential, TokenSource as _, Want};
use grantflow::store::{LoadGrant, RecordKey, SaveGrant, StoreOp, StoreReply, Stored};
use grantflow::{Effect, Failure, Reply, Step, Timestamp};
use grantflow_tests::{Google, google};
use grantflow_ureq::grantflow_store::{FileStore, Lease, MemoryStore, Store, conformance};

use super::*;

/// A store, each use of which is a run of the adapter.
struct Through<A>(Arc<A>);

/// Asks for one thing.
struct Ask(Option<StoreOp>);

impl Machine for Ask {
    type Output = Result<StoreReply, Failure>;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Self::Output> {
        match (self.0.take(), reply) {
            (Some(op), _) => Step::Do(Effect::Store(op)),
            (None, Reply::Store(reply)) => Step::Done(Ok(Ok(reply))),
            (None, Reply::Failed(failure)) => Step::Done(Ok(Err(failure))),
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
        self.0.run(Ask(Some(op))).map_err(|error| Failure::not_sent(FailureKind::Store, error))?
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

type Act = Box<dyn FnOnce() + Send>;

/// A store in which somebody else acts, once, before something is deleted or after a lease was given back.
#[derive(Clone, Default)]
struct Crowded {
    store: MemoryStore,
    before_delete: Arc<Mutex<Option<Act>>>,
    after_release: Arc<Mutex<Option<Act>>>,
}

impl Crowded {
    fn act(act: &Mutex<Option<Act>>) {
        let act = act.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

impl Store for Crowded {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.store.load(key)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.store.save(key, expected, stored)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        Self::act(&self.before_delete);
        self.store.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let release = |lease| Released { lease: Some(lease), act: self.after_release.clone() };
        Ok(self.store.try_lease(key, time)?.map(|lease| Lease::new(lease.until(), release(lease))))
    }
}

struct Released {
    lease: Option<Lease>,
    act: Arc<Mutex<Option<Act>>>,
}

impl Drop for Released {
    fn drop(&mut self) {
        drop(self.lease.take());
        Crowded::act(&self.act);
    }
}

/// An application whose user consents at once.
fn consenting() -> (Front, InstalledApp) {
    let front = Front::start(Server::demo()).unwrap();
    let app = app(&front).show(|url| drop(person::visit_in_background(url)));
    (front, app)
}

pub(super) fn who_signs_in_while_another_signs_out_stays_signed_in<A: Adapter>() {
    let ((front, app), crowded) = (consenting(), Crowded::default());
    let program = A::with_store(Arc::new(crowded.clone()));
    front.server().settings.lifetime = 1;
    program.load_or_sign_in(&app).unwrap();
    front.server().settings.lifetime = 3600;
    std::thread::sleep(Duration::from_millis(1100));
    *crowded.after_release.lock().unwrap() = Some({
        let (store, app) = (crowded.store.clone(), app.clone());
        Box::new(move || A::with_store(Arc::new(store)).load_or_sign_in(&app).map(drop).unwrap())
    });
    program.sign_out(&app).unwrap();
    assert!(crowded.after_release.lock().unwrap().is_none(), "the other has signed in");
    let kept = program.run(LoadGrant::new(app.record_key(""), Want::default())).unwrap();
    assert!(kept.is_some(), "the grant of the other was deleted");
    assert_eq!(front.server().seen_at(Place::Revoke).len(), 1);
}

pub(super) fn what_was_saved_in_the_middle_of_a_sign_out_is_revoked_too<A: Adapter>() {
    let ((front, app), crowded) = (consenting(), Crowded::default());
    let program = A::with_store(Arc::new(crowded.clone()));
    program.load_or_sign_in(&app).unwrap();
    // Somebody whose lease has ended saves what they have got.
    let (key, elsewhere) = (app.record_key(""), MemoryStore::new());
    let late = program.sign_in(&app).unwrap();
    A::with_store(Arc::new(elsewhere.clone())).run(SaveGrant::new(key.clone(), Want::default(), &late)).unwrap();
    *crowded.before_delete.lock().unwrap() = Some({
        let (store, key) = (crowded.store.clone(), key.clone());
        Box::new(move || {
            let found = store.load(&key).unwrap().unwrap().version;
            let newer = Stored { version: found + 1, ..elsewhere.load(&key).unwrap().unwrap() };
            assert!(store.save(&key, Some(found), &newer).unwrap());
        })
    });
    program.sign_out(&app).unwrap();
    assert!(crowded.load(&key).unwrap().is_none());
    let (server, late) = (front.server(), late.refresh_token().unwrap());
    let revoked = server.seen_at(Place::Revoke).into_iter().filter_map(|seen| seen.param("token"));
    assert!(revoked.into_iter().any(|token| late.matches(&token)), "what was deleted was not revoked");
}

pub(super) fn what_a_file_of_googles_holds_is_taken_over_and_written_again<A: Adapter>() {
    let front = Front::start(Google::demo()).unwrap();
    let file = google::authorized_user_json();
    let user = AuthorizedUser::from_json(file.to_string()).unwrap();
    let token_endpoint = front.server().address(google::Place::Token);
    let server = ServerMetadata::google().token_endpoint(&token_endpoint).unwrap();
    let app = InstalledApp::new(&server, user.client()).scopes(google::GRANTED).open_browser(false);
    let program = A::with_store(Arc::new(MemoryStore::new()));
    // Google's own token endpoint is what the file's user would ask.
    let user_at = Credential::refresh_token(&server, user.client(), file["refresh_token"].as_str().unwrap());
    let minted = program.run(user_at.mint(&Want::default(), &user.first_state())).unwrap();
    program.run(SaveGrant::new(app.record_key(""), Want::default(), &minted)).unwrap();

    let token = program.load_or_sign_in(&app.show(|_| panic!("somebody was asked"))).unwrap();
    assert_eq!(token.access_token(), minted.access_token());
    assert_eq!(front.server().seen().len(), 1);
    let user = AuthorizedUser::signed_in(user.client(), &token).unwrap();
    let written: serde_json::Value = serde_json::from_str(user.to_json(&user.first_state(), None).expose()).unwrap();
    for name in ["type", "client_id", "client_secret", "refresh_token", "account"] {
        assert_eq!(written[name], file[name], "{name}");
    }
    assert_eq!(written["token"], token.access_token());
}

pub(super) fn a_workforce_users_refresh_token_rotates_in_a_store_that_programs_share<A: Adapter>() {
    let mut google = Google::demo();
    google.workforce_user = Some(("demo-client".into(), "s3cret".into(), "first".into()));
    let front = Front::start(google).unwrap();
    let file = serde_json::json!({
        "type": "external_account_authorized_user", "client_id": "demo-client", "client_secret": "s3cret",
        "refresh_token": "first", "token_url": front.server().address(google::Place::Workforce),
    });
    let user = ExternalUser::from_json_with_any_server(file.to_string()).unwrap();
    let (store, key) = (MemoryStore::new(), user.record_key("workforce").unwrap());
    let program = || A::with_store(Arc::new(store.clone()));
    let first = program().run(user.mint(&Want::default(), &user.first_state())).unwrap();
    program().run(SaveGrant::new(key.clone(), Want::default(), &first)).unwrap();
    let mut used = vec!["first".to_owned()];
    for want in ["read", "write", "admin"].map(Want::access_token) {
        let kept = || program().run(LoadGrant::new(key.clone(), Want::default())).unwrap().unwrap();
        used.push(kept().refresh_token.unwrap().expose().to_owned());
        let grant = user.kept(key.clone()).unwrap();
        let token = program().run(grant.mint(&want, &grant.first_state())).unwrap();
        assert!(token.access_token().starts_with("ya29.d."));
        assert!(kept().refresh_token.unwrap().matches(front.server().workforce_refresh_token().unwrap()));
    }
    let seen = front.server();
    let seen: Vec<_> =
        seen.seen_at(google::Place::Workforce).iter().filter_map(|it| it.param("refresh_token")).collect();
    assert_eq!(seen, used, "each of them once, by the newest");
}

pub(super) fn a_grant_that_cannot_be_revoked_can_be_forgotten<A: Adapter>() {
    let ((front, app), store) = (consenting(), MemoryStore::new());
    let program = A::with_store(Arc::new(store.clone()));
    let kept = || store.load(&app.record_key("")).unwrap().is_some();
    program.load_or_sign_in(&app).unwrap();
    front.server().fail(Place::Revoke, Fault::status(403, ""));
    program.sign_out(&app).unwrap_err();
    assert!(kept(), "nobody loses the way to revoke it");
    let requests = front.server().seen().len();
    program.forget(&app).unwrap();
    assert!(!kept());
    // There is nothing left, which is no error; and no server was asked.
    program.forget(&app).unwrap();
    assert_eq!(front.server().seen().len(), requests);
}

/// A store that has no room.
struct Full(MemoryStore);

impl Store for Full {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.0.load(key)
    }
    fn save(&self, _: &RecordKey, _: Option<u64>, _: &Stored) -> Result<bool, Failure> {
        Err(Failure::not_sent(FailureKind::Store, "no space left on device"))
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.0.try_lease(key, time)
    }
}

pub(super) fn a_sign_in_that_cannot_be_saved_is_not_thrown_away<A: Adapter>() {
    let (front, app) = consenting();
    let program = A::with_store(Arc::new(Full(MemoryStore::new())));
    let token = program.load_or_sign_in(&app).unwrap();
    assert!(front.server().accepts(token.access_token(), program.cx().now().wall));
    assert_eq!(front.server().seen_at(Place::Token).len(), 1, "nothing is refreshed that is good");
}
