//! Google's chain of three: an external account over AWS's metadata, an impersonation with a delegate, and a token of each
//! tenant that is good for its bucket alone.
//!
//! The base is the exchange at STS. Besides what may go wrong everywhere, IAM refuses the base's token now and then.

use std::sync::Arc;
use std::time::Duration;

use grantflow::Effect;
use grantflow::google::{AccessBoundaryRule, AwsIdentity, Downscoped, ExternalAccount, Impersonated};
use grantflow::source::{TokenSource, Want};

use super::{Plan, Report, Scene, WEEK, Weather, run_scene};
use crate::google::{self, AwsKey, Imds, Place, Provider, SERVICE_ACCOUNT, Takes};
use crate::seeds::Broken;
use crate::{Fault, World};

const AUDIENCE: &str =
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-aws";
const MIDDLE: &str = "middle@demo-project.iam.gserviceaccount.com";

struct Three;

impl Scene for Three {
    const PATIENCE: Duration = Duration::from_secs(300);
    const OF_GOOGLE: bool = true;

    fn world() -> World {
        let mut world = google::world();
        let middle = google::Account { email: MIDDLE.into(), ..world.google().account_mut(SERVICE_ACCOUNT).clone() };
        world.google = world.google.take().map(|google| google.account(middle));
        let key = AwsKey { secret: "secret".into(), session_token: Some("session".into()) };
        let google = world.google();
        google.imds = Some(Imds::new("demo-role", "AKIDEXAMPLE", key.clone()));
        google.providers = vec![Provider {
            audience: AUDIENCE.into(),
            subject_token_type: ExternalAccount::AWS.into(),
            takes: Takes::Aws([("AKIDEXAMPLE".to_owned(), key)].into()),
            client: None,
        }];
        google.impersonators = vec![(AUDIENCE.into(), MIDDLE.into()), (MIDDLE.into(), SERVICE_ACCOUNT.into())];
        world
    }

    fn source(_: &mut World) -> Arc<dyn TokenSource> {
        let account = ExternalAccount::new(AUDIENCE, ExternalAccount::AWS, AwsIdentity::new());
        let middle = account.and_then(|base| Impersonated::new(base, SERVICE_ACCOUNT)?.delegates([MIDDLE]));
        let tenant = |want: &Want| {
            let name = want.wanted_audience().unwrap_or_default();
            let bucket = format!("//storage.googleapis.com/projects/_/buckets/{name}");
            Ok(vec![AccessBoundaryRule::new(&bucket, ["inRole:roles/storage.objectViewer"])])
        };
        Arc::new(middle.and_then(|middle| Downscoped::by_want(middle, tenant)).expect("a chain"))
    }

    fn want(nth: usize) -> Want {
        Want::default().audience(&format!("tenant-{nth}"))
    }

    fn is_of_base(effect: &Effect) -> bool {
        let shown = format!("{effect:?}");
        shown.contains("sts.googleapis.com") && shown.contains("audience")
    }

    fn is_of_middle(effect: &Effect) -> bool {
        format!("{effect:?}").contains("iamcredentials.googleapis.com")
    }

    fn handed_out(world: &mut World) -> u64 {
        world.google().handed_out()
    }

    fn end_access_tokens(world: &mut World) {
        world.google().end_access_tokens();
    }

    fn fail(world: &mut World, effect: &Effect, fault: Fault) {
        let shown = format!("{effect:?}");
        let places = [("sts.", Place::Sts), ("iamcredentials.", Place::Iam), ("169.254.169.254", Place::Imds)];
        if let Some((_, place)) = places.into_iter().find(|(host, _)| shown.contains(host)) {
            world.google().fail(place, fault);
        }
    }
}

/// Two weeks of a thousand tenants, with failures at every step.
///
/// # Errors
///
/// If a rule was broken.
pub fn run(seed: u64) -> Result<Report, Box<Broken<Report>>> {
    let weather = Weather { lost: 200, broken: 30, busy: 30, slow: 25, ended: 20_000 };
    run_plan(seed, Plan { wants: 1000, time: 2 * WEEK, pause: 2400, weather })
        .map_err(|(why, report)| Box::new(Broken { seed, why, last: Vec::new(), report }))
}

/// What comes of a plan.
///
/// # Errors
///
/// The rule that was broken, and what had happened until then.
pub fn run_plan(seed: u64, plan: Plan) -> Result<Report, (String, Report)> {
    run_scene::<Three>(seed, plan)
}
