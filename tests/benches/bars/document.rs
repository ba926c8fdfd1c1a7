//! Metadata that is there: what a run pays that reads what another has read.

use std::time::Duration;

use grantflow::documents::{Documents, Look};
use grantflow::{Call, Now, Timestamp};
use http::{Request, Response};

use crate::harness::Work;

pub(crate) const NAME: &str = "a document that is there";
/// The most that it may take, found and copied.
pub(crate) const BAR: Duration = Duration::from_micros(1);

const ADDRESS: &str = "https://accounts.as.example/tenants/8f1d2c9e/.well-known/openid-configuration";
/// As many as are kept.
const OTHERS: usize = 255;

pub(crate) fn works() -> Vec<Work<'static>> {
    let hour = Duration::from_secs(3600);
    let now = Now { wall: Timestamp::from_unix(1_750_000_000), mono: hour };
    let call = |address: &str| Call::new(Request::get(address).body(Vec::new()).unwrap()).may_be_old(hour, hour);
    let response = || Response::builder().header("content-type", "application/json").body(vec![b' '; 4096]).unwrap();
    let mut documents = Documents::new();
    let others = (0..OTHERS).map(|nth| format!("https://accounts.as.example/tenants/{nth:08x}/keys"));
    for address in others.chain([ADDRESS.to_owned()]) {
        let Look::Fetch(ticket) = documents.look(&call(&address), now) else { panic!("nobody has read it") };
        documents.settle(ticket, now, Ok(response())).unwrap();
    }
    let call = call(ADDRESS);
    let hit = move || match documents.look(&call, now) {
        Look::Have(document) => document.response(now),
        other => panic!("{other:?}"),
    };
    vec![Work::new("found and copied", hit)]
}
