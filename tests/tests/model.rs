//! Slots and flights under a scheduler that tries thousands of interleavings. A lost wake-up, or anybody who
//! waits for nothing, is a deadlock, which it reports with the schedule that led to it.
//!
//! The very files of `grantflow-ureq` are compiled here, on other locks and with a virtual world outside:
//! `cargo test -p grantflow-tests --features model --test model`.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use grantflow::source::{Credential as Source, Want};
use grantflow::{Error, ErrorKind, Timestamp, Token, TokenRequest};
use grantflow_tests::demo::batch;
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Place, Server, World};
use grantflow_ureq::grantflow;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Runner, thread};

use credential::Credential;
use shared::Shared;
use slot::{Closed, Slot};
use task::Tend as _;
use token_ref::TokenRef;

#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/asking.rs"]
mod asking;
#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/credential.rs"]
mod credential;
#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/flight.rs"]
mod flight;
#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/saving.rs"]
mod saving;
#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/slot.rs"]
mod slot;
#[allow(dead_code, reason = "the crate uses all of it")]
#[path = "../../transport-ureq/src/manager/task.rs"]
mod task;

mod sync {
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

mod token_ref {
    use std::sync::Arc;

    use grantflow_ureq::grantflow::Timestamp;
    use grantflow_ureq::grantflow::cell::Issued;

    use super::sync::{Mutex, lock};

    #[derive(Default)]
    pub(crate) struct Shown(Mutex<Option<(Arc<Issued>, u64, u64)>>);

    /// The clock that readers look at.
    pub(crate) fn millis(moment: Timestamp) -> u64 {
        u64::try_from(moment.as_unix_millis()).unwrap()
    }

    impl Shown {
        pub(crate) fn fresh(&self, now: u64) -> Option<TokenRef> {
            let (issued, ..) = lock(&self.0).clone().filter(|(_, since, until)| *since <= now && now < *until)?;
            Some(TokenRef(issued))
        }

        pub(crate) fn show(&self, issued: &Arc<Issued>, since: Timestamp, until: Timestamp) {
            *lock(&self.0) = Some((issued.clone(), millis(since), millis(until)));
        }

        pub(crate) fn hide(&self) {
            self.clear();
        }

        pub(crate) fn clear(&self) {
            *lock(&self.0) = None;
        }
    }

    pub(crate) struct TokenRef(pub(crate) Arc<Issued>);

    impl From<Arc<Issued>> for TokenRef {
        fn from(issued: Arc<Issued>) -> Self {
            Self(issued)
        }
    }
}

mod shared {
    use super::*;
    use grantflow::cell::{Issued, TokenCell};
    use grantflow::source::{GrantState, Waiting};
    use grantflow::store::Saving;
    use grantflow::{Machine, Now};
    use task::{Task, Tend, Timer};

    /// The outside: a world of its own for each schedule. Its own locks are no points to switch at.
    pub(crate) struct Shared {
        pub(crate) world: std::sync::Mutex<World>,
        pub(crate) background: bool,
        /// Whether there are no threads for the background.
        pub(crate) no_threads: bool,
        /// How many of the next mints panic before they reach the server.
        pub(crate) panics: AtomicUsize,
        /// How many mints are under way, and were at the same time at the most.
        pub(crate) flying: AtomicUsize,
        pub(crate) most_flying: AtomicUsize,
        /// How many changes were told.
        pub(crate) told: AtomicUsize,
        /// While closed, no mint comes back.
        pub(crate) gate: sync::Mutex<bool>,
        pub(crate) opened: sync::Condvar,
    }

    impl Shared {
        pub(crate) fn now(&self) -> Now {
            self.world.lock().unwrap().now
        }

        pub(crate) fn cell(&self) -> TokenCell {
            TokenCell::new(7).margin(Duration::from_secs(600))
        }

        pub(crate) fn background(&self) -> bool {
            self.background
        }

        pub(crate) fn run(&self, mint: impl Machine<Output = Token>) -> Result<Token, Error> {
            let flying = self.flying.fetch_add(1, SeqCst) + 1;
            self.most_flying.fetch_max(flying, SeqCst);
            thread::yield_now();
            let mut open = sync::lock(&self.gate);
            while !*open {
                open = sync::wait(&self.opened, open);
            }
            drop(open);
            if self.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                self.flying.fetch_sub(1, SeqCst);
                // Without the hook, and its message in each of thousands of schedules.
                resume_unwind(Box::new("a mint panics, as this test wants it to"));
            }
            let result = self.world.lock().unwrap().run(mint);
            thread::yield_now();
            self.flying.fetch_sub(1, SeqCst);
            result
        }

        pub(crate) fn tell_waiting(&self, _: &str, _: Waiting) {
            panic!("nothing here waits for another process")
        }

        pub(crate) fn later(&self, task: Box<dyn Task>) -> Result<(), Vec<Box<dyn Task>>> {
            if self.no_threads {
                return Err(vec![task]);
            }
            thread::spawn(move || task.run());
            Ok(())
        }

        pub(crate) fn save(&self, _: &mut Saving) -> Result<(), Error> {
            panic!("nothing here lies in a store")
        }

        pub(crate) fn arm(&self, _: &Arc<impl Tend + 'static>, timer: &mut Timer, _: Duration) {
            *timer = 1;
        }

        pub(crate) fn disarm(&self, _: &Arc<impl Tend + 'static>, timer: &mut Timer) {
            *timer = 0;
        }

        pub(crate) fn tell(
            &self,
            _: &Arc<str>,
            _: &Want,
            _: Result<Arc<Issued>, Error>,
            _: impl FnOnce() -> GrantState,
        ) {
            self.told.fetch_add(1, SeqCst);
        }
    }
}

/// A world with one server and what refers to it.
struct Scene {
    shared: Arc<Shared>,
    home: Arc<Credential>,
}

impl Scene {
    /// With a credential that can be used in parallel.
    fn plain(change: impl FnOnce(&mut Shared)) -> Self {
        Self::new(|world| Source::client_credentials(world.server().metadata(), &batch()), change)
    }

    /// With a refresh token that is good for one use; a second ends the grant.
    fn rotating(change: impl FnOnce(&mut Shared)) -> Self {
        Self::new(rotating, change)
    }

    fn new(source: impl FnOnce(&mut World) -> Source, change: impl FnOnce(&mut Shared)) -> Self {
        let mut world = World::with(Server::demo());
        let source = source(&mut world);
        let mut shared = Shared {
            world: world.into(),
            background: true,
            no_threads: false,
            panics: AtomicUsize::new(0),
            flying: AtomicUsize::new(0),
            most_flying: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            gate: sync::Mutex::new(true),
            opened: sync::Condvar::new(),
        };
        change(&mut shared);
        let shared = Arc::new(shared);
        let home = Credential::new(&shared, "".into(), Arc::new(source));
        Self { shared, home }
    }

    fn slot(&self, scopes: &str) -> Arc<Slot> {
        Slot::new(&self.home, Want::access_token(scopes))
    }

    fn ask(&self, slot: &Arc<Slot>) -> Result<TokenRef, Error> {
        let now = self.shared.now();
        let token = slot.fresh(token_ref::millis(now.wall)).map_or_else(|| slot.token(), Ok)?;
        assert!(!token.0.token.is_expired(now.wall), "a token that has ended");
        Ok(token)
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.shared.world.lock().unwrap())
    }

    fn pass(&self, seconds: u64) {
        self.world(|world| world.pass(Duration::from_secs(seconds)));
    }

    fn fail(&self, fault: Fault) {
        self.world(|world| world.server().fail(Place::Token, fault));
    }

    fn requests(&self) -> usize {
        self.world(|world| world.server().seen_at(Place::Token).len())
    }

    fn set_gate(&self, open: bool) {
        *sync::lock(&self.shared.gate) = open;
        self.shared.opened.notify_all();
    }

    fn most_flying(&self) -> usize {
        self.shared.most_flying.load(SeqCst)
    }
}

fn rotating(world: &mut World) -> Source {
    world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let (server, client) = (world.server().metadata(), batch());
    let request = TokenRequest::password(&server, &client, "alice", "wonderland").unwrap();
    let token = world.run(request.scopes("read write").exchange()).unwrap();
    Source::signed_in(server, &client, &token).unwrap()
}

fn refusal() -> Fault {
    Fault::status(400, r#"{"error":"invalid_client"}"#)
}

/// Tries so many schedules at random, and as many in which few threads overtake; with `SCHEDULES=n`, n times
/// as many.
fn try_schedules(count: usize, scene: fn()) {
    let count = count * std::env::var("SCHEDULES").map_or(1, |times| times.parse().unwrap());
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new(count), config.clone()).run(scene);
    Runner::new(PctScheduler::new(3, count), config).run(scene);
}

/// Does this on so many threads at the same time.
fn together<T: Send + 'static>(threads: usize, act: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let act = Arc::new(act);
    let spawn = |nth| {
        let act = act.clone();
        thread::spawn(move || act(nth))
    };
    let running: Vec<_> = (0..threads).map(spawn).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn without_a_token_one_fetches_and_all_have_what_came_of_it() {
    try_schedules(300, || {
        let scene = Arc::new(Scene::plain(|_| {}));
        let slot = scene.slot("read");
        let kind = match thread_rng().gen_range(0..3) {
            0 => None,
            1 => {
                scene.fail(refusal());
                Some(ErrorKind::Server)
            }
            _ => {
                scene.shared.panics.store(1, SeqCst);
                Some(ErrorKind::Misuse)
            }
        };
        let asked = slot.clone();
        let inside = scene.clone();
        let results = together(4, move |_| inside.ask(&asked).map(|token| token.0.generation));
        for result in results {
            assert_eq!(result.as_ref().err().map(Error::kind), kind);
            assert_eq!(result.unwrap_or(1), 1);
        }
        assert_eq!((scene.most_flying(), scene.shared.told.load(SeqCst)), (1, 1));
        // Whatever it was, it goes on afterwards.
        scene.pass(2);
        scene.ask(&slot).unwrap();
    });
}

#[test]
fn while_a_due_token_is_refreshed_nobody_waits() {
    try_schedules(300, || {
        let scene = Arc::new(Scene::plain(|_| {}));
        let slot = scene.slot("read");
        scene.ask(&slot).unwrap();
        scene.pass(3_200);
        // Nothing comes back before all have been served: whoever waited would wait for ever.
        scene.set_gate(false);
        let (inside, asked) = (scene.clone(), slot.clone());
        together(4, move |_| assert_eq!(inside.ask(&asked).unwrap().0.generation, 1));
        scene.set_gate(true);
        while slot.see(scene.shared.now()).refreshing {
            thread::yield_now();
        }
        assert_eq!(scene.ask(&slot).unwrap().0.generation, 2);
        assert_eq!((scene.requests(), scene.most_flying()), (2, 1));
    });
}

#[test]
fn wants_of_a_rotating_grant_take_turns() {
    try_schedules(300, || {
        let scene = Arc::new(Scene::rotating(|_| {}));
        let slots = ["read", "write"].map(|scopes| scene.slot(scopes));
        let inside = scene.clone();
        together(4, move |nth| {
            let slot = &slots[nth % 2];
            if nth == 3 { drop(slot.force().unwrap()) } else { drop(inside.ask(slot).unwrap()) }
        });
        assert_eq!(scene.most_flying(), 1);
        // The server would have ended the grant at a refresh token that it saw before.
        let used = scene.requests() - 1;
        assert!((2..=3).contains(&used), "{used}");
    });
}

#[test]
fn whatever_fails_in_whatever_order_nobody_is_left_waiting() {
    try_schedules(500, || {
        let lucky = |one_in: u32| thread_rng().gen_ratio(1, one_in);
        let (background, no_threads, panics) = (lucky(2), lucky(3), thread_rng().gen_range(0..2));
        let scene = Arc::new(Scene::rotating(|shared| {
            (shared.background, shared.no_threads) = (background, no_threads);
            shared.panics = AtomicUsize::new(panics);
        }));
        if lucky(2) {
            scene.fail(refusal());
        }
        let slots = ["read", "write"].map(|scopes| scene.slot(scopes));
        let (inside, asked) = (scene.clone(), slots.clone());
        together(3, move |_| {
            for _ in 0..3 {
                let slot = &asked[thread_rng().gen_range(0..2)];
                match thread_rng().gen_range(0..5) {
                    0 => drop(slot.force()),
                    1 => drop(inside.ask(slot).map(|token| slot.reject(&token.0))),
                    // Tokens are due after 50 minutes, and end after 60.
                    2 => inside.pass(thread_rng().gen_range(0..4_000)),
                    3 => slot.clone().tend(1),
                    _ => drop(inside.ask(slot)),
                }
            }
        });
        assert!(scene.most_flying() <= 1);
        // The failure may still be to come. Once that is over, everyone is served, by tokens that the server takes.
        slots.iter().for_each(|slot| drop(scene.ask(slot)));
        scene.pass(120);
        for slot in &slots {
            let token = scene.ask(slot).unwrap_or_else(|error| panic!("{error}"));
            assert!(scene.world(|world| {
                let now = world.now.wall;
                world.server().accepts(token.0.token.access_token(), now)
            }));
        }
    });
}

#[test]
fn closing_and_replacing_leave_nobody_waiting_and_nothing_behind() {
    try_schedules(500, || {
        let scene = Arc::new(Scene::rotating(|_| {}));
        let slots = ["read", "write"].map(|scopes| scene.slot(scopes));
        let another = scene.world(rotating);
        let replace = thread_rng().gen_ratio(1, 2);
        if thread_rng().gen_ratio(1, 2) {
            slots.iter().for_each(|slot| drop(scene.ask(slot)));
            scene.pass(thread_rng().gen_range(0..2) * 3_700);
        }
        let (inside, asked) = (scene.clone(), slots.clone());
        let results = together(4, move |nth| {
            if nth < 3 {
                return inside.ask(&asked[nth % 2]).map(drop);
            }
            if replace {
                inside.home.replace(Arc::new(another.clone()));
                asked.iter().for_each(|slot| slot.clear());
            } else {
                asked.iter().for_each(|slot| slot.close(Closed::ShutDown));
                // Once nothing delicate is under way, nothing will be.
                if sync::lock(&inside.home.queue).delicate == 0 {
                    let before = inside.requests();
                    (0..5).for_each(|_| thread::yield_now());
                    assert_eq!(inside.requests(), before);
                }
            }
            Ok(())
        });
        let errors = results.into_iter().filter_map(Result::err);
        if replace {
            assert_eq!(errors.map(|error| error.kind()).collect::<Vec<_>>(), []);
            slots.iter().for_each(|slot| assert!(scene.ask(slot).is_ok() && slot.force().is_ok()));
        } else {
            errors.for_each(|error| assert_eq!(error.kind(), ErrorKind::Cancelled));
            slots.iter().for_each(|slot| assert!(scene.ask(slot).is_err()));
            assert!(slots.iter().all(|slot| slot.see(scene.shared.now()).held.is_none()));
        }
    });
}

#[test]
fn whoever_waits_hears_at_once_of_an_end_or_of_another_credential() {
    try_schedules(100, || {
        let scene = Arc::new(Scene::plain(|_| {}));
        let slot = scene.slot("read");
        // Nothing comes back before the gate is opened.
        scene.set_gate(false);
        let flying = |count| {
            while scene.shared.flying.load(SeqCst) < count {
                thread::yield_now();
            }
        };
        let forced = slot.clone();
        let flight = thread::spawn(move || drop(forced.force()));
        flying(1);
        let (inside, asked) = (scene.clone(), slot.clone());
        let waiting = thread::spawn(move || inside.ask(&asked).map(|token| token.0.generation));
        if thread_rng().gen_ratio(1, 2) {
            slot.close(Closed::ShutDown);
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
            scene.set_gate(true);
        } else {
            let another = scene.world(|world| Source::client_credentials(world.server().metadata(), &batch()));
            scene.home.replace(Arc::new(another));
            slot.clear();
            // It has begun a flight of its own.
            flying(2);
            scene.set_gate(true);
            assert_eq!(waiting.join().unwrap().unwrap(), 1);
        }
        flight.join().unwrap();
    });
}

#[test]
fn neither_an_ended_nor_a_refused_token_is_handed_out() {
    try_schedules(300, || {
        let scene = Arc::new(Scene::plain(|_| {}));
        let slot = scene.slot("read");
        let old = scene.ask(&slot).unwrap();
        let ended = thread_rng().gen_ratio(1, 2);
        if ended {
            scene.pass(3_700);
        }
        let inside = scene.clone();
        let generations = together(3, move |_| {
            if !ended {
                assert!(slot.reject(&old.0));
            }
            // That it has not ended is checked in here.
            inside.ask(&slot).unwrap().0.generation
        });
        assert_eq!(generations, [2, 2, 2]);
        assert_eq!((scene.requests(), scene.most_flying()), (2, 1));
    });
}

#[test]
fn a_refresh_that_finds_no_thread_keeps_nobody_waiting() {
    try_schedules(150, || {
        let scene = Arc::new(Scene::plain(|shared| shared.no_threads = true));
        let slot = scene.slot("read");
        scene.ask(&slot).unwrap();
        scene.pass(3_200);
        let (inside, asked) = (scene.clone(), slot.clone());
        together(3, move |nth| match nth {
            // It is due: a refresh in the background begins, and comes to nothing.
            0 => drop(inside.ask(&asked).unwrap()),
            _ => drop(asked.force().unwrap()),
        });
        assert!(slot.see(scene.shared.now()).error.is_none());
    });
}

/// The wall clock is set back by so many seconds, and so many pass.
fn set_back(scene: &Scene, by: u64, passed: u64) {
    scene.world(|world| {
        world.now.wall = Timestamp::from_unix_millis(world.now.wall.as_unix_millis() - 1000 * by as i64);
        world.pass(Duration::from_secs(passed));
    });
}

#[test]
fn a_token_ends_though_the_wall_clock_was_set_back() {
    try_schedules(1, || {
        for back in [4_000, 100_000] {
            let scene = Scene::plain(|shared| shared.background = false);
            let slot = scene.slot("read");
            scene.ask(&slot).unwrap();
            set_back(&scene, back, 100);
            // It is good for most of an hour, and shown again to those who ask the wall clock alone.
            assert_eq!(scene.ask(&slot).unwrap().0.generation, 1);
            assert!(slot.fresh(token_ref::millis(scene.shared.now().wall)).is_some());
            scene.pass(3_600);
            assert_eq!(scene.ask(&slot).unwrap().0.generation, 2);
        }
    });
}

#[test]
fn a_step_back_that_one_clock_cannot_see_is_seen_by_whoever_compares_both() {
    try_schedules(1, || {
        let scene = Scene::plain(|shared| shared.background = false);
        let slot = scene.slot("read");
        scene.ask(&slot).unwrap();
        scene.pass(1_800);
        set_back(&scene, 1_500, 1_900);
        let now = scene.shared.now();
        assert!(slot.fresh(token_ref::millis(now.wall)).is_some(), "by the wall clock alone it is good");
        slot.clone().look_again();
        assert!(slot.fresh(token_ref::millis(now.wall)).is_none());
        assert_eq!(scene.ask(&slot).unwrap().0.generation, 2);
    });
}
