//! The DPoP key of a client, made once for all processes that share a store.

use super::{RecordKey, StoreOp, StoreReply, Stored};
use crate::crypto::{Algorithm, SigningKey};
use crate::machine::Effect;
use crate::{Client, Cx, DpopKey, Error, ErrorKind, Issuer, Machine, Reply, Secret, Step};

/// How often to look again after others were faster, or took the key away.
const ROUNDS: u32 = 8;

/// The machine that loads the DPoP key of a client at a server from the store, or makes the key and keeps it there. All
/// processes and machines that share the store get the same key, whichever of them makes it, and grants that are bound
/// to it outlive each of them.
///
/// ```no_run
/// use grantflow::store::DpopKeyInStore;
/// use grantflow::{Client, Error, Issuer, Machine};
///
/// # fn run<M: Machine>(_: M) -> Result<M::Output, Error> { Err(Error::new(grantflow::ErrorKind::Config, "")) }
/// # fn main_() -> Result<(), Error> {
/// let (issuer, client) = (Issuer::new("https://as.example")?, Client::new("native-app"));
/// let key = run(DpopKeyInStore::new(&issuer, &client))?;
/// let client = client.dpop(key);
/// # let _ = client;
/// # Ok(()) }
/// ```
///
/// A reader of the store can use its grants, since the key lies beside them: seal the store's records where that
/// matters. Without the key under [`RecordKey::of_dpop_key`] the grants that are bound to it are of no use.
///
/// ```text
/// Begin ─▶ Load ─▶ (there: done) ─▶ Save, if nothing lies there ─▶ done
///           ▲                         │ conflict
///           └─────────────────────────┘
/// ```
#[derive(Debug)]
pub struct DpopKeyInStore {
    key: RecordKey,
    algorithm: Algorithm,
    stage: Stage,
    rounds: u32,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Load,
    Save(DpopKey),
    Ended,
}

impl DpopKeyInStore {
    /// The key of this client at this server, which is made for ES256.
    pub fn new(issuer: &Issuer, client: &Client) -> Self {
        let key = RecordKey::of_dpop_key(issuer, client);
        Self { key, algorithm: Algorithm::ES256, stage: Stage::Begin, rounds: 0 }
    }

    /// Sets the algorithm of the key, if the store has none yet: one that the server names in
    /// `dpop_signing_alg_values_supported`. Keys for RSA are made elsewhere.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    fn load(&mut self) -> Step<DpopKey> {
        self.stage = Stage::Load;
        Step::Do(Effect::Store(StoreOp::Load { key: self.key.clone() }))
    }

    fn make(&mut self, cx: &mut Cx) -> Result<StoreOp, Error> {
        let jwk = SigningKey::generate_jwk(self.algorithm, cx)?;
        self.stage = Stage::Save(read(&jwk)?);
        // What was deleted may have had any version: the clock is ahead of all of them.
        let version = u64::try_from(cx.now().wall.as_unix_millis()).unwrap_or(1);
        Ok(StoreOp::Save { key: self.key.clone(), expected: None, stored: Stored::new(version, jwk.expose()) })
    }
}

impl Machine for DpopKeyInStore {
    type Output = DpopKey;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<DpopKey> {
        Step::Done(match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => return self.load(),
            (Stage::Load, Reply::Store(StoreReply::Loaded(Some(found)))) => {
                let text = str::from_utf8(&found.value).ok().map(Secret::from);
                let key = text.ok_or_else(|| Error::config("it is no text")).and_then(|text| read(&text));
                key.map_err(|error| {
                    let why = format!("what lies under {} is no private key", self.key);
                    Error::new(ErrorKind::Store, why).with_source(error)
                })
            }
            (Stage::Load, Reply::Store(StoreReply::Loaded(None))) => match self.make(cx) {
                Ok(save) => return Step::Do(Effect::Store(save)),
                Err(error) => Err(error),
            },
            (Stage::Save(key), Reply::Store(StoreReply::Saved)) => Ok(key),
            // Another process was faster.
            (Stage::Save(_), Reply::Store(StoreReply::Conflict)) if self.rounds < ROUNDS => {
                self.rounds = self.rounds.saturating_add(1);
                return self.load();
            }
            (Stage::Save(_), Reply::Store(StoreReply::Conflict)) => {
                Err(Error::new(ErrorKind::Store, "the stored key keeps changing").transient())
            }
            (Stage::Load | Stage::Save(_), Reply::Failed(failure)) => Err(failure.into()),
            (Stage::Load | Stage::Save(_), Reply::Refused) => Err(Error::refused("Store")),
            _ => Err(Error::misuse("looking for a DPoP key")),
        })
    }
}

/// A private JWK that says its algorithm.
fn read(jwk: &Secret) -> Result<DpopKey, Error> {
    SigningKey::from_own_jwk(jwk).map(DpopKey::from)
}
