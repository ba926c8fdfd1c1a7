//! Metadata that is there: what a run pays that reads what another has read.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::documents::{Documents, Look};
use grantflow::{Call, Now, Timestamp};
use http::header::AGE;
use http::{HeaderValue, Request, Response};

use crate::harness::Work;

const ADDRESS: &str = "https://accounts.as.example/tenants/8f1d2c9e/.well-known/openid-configuration";
/// As long as metadata often is. From 4096 on, how fast memory is copied depends on where it happens to lie.
const LENGTH: usize = 2000;
/// As many as are kept.
const OTHERS: usize = 255;

pub(crate) fn works() -> Vec<Work<'static>> {
    let hour = Duration::from_secs(3600);
    let now = Now { wall: Timestamp::from_unix(1_750_000_000), mono: hour };
    let call = |address: &str| Call::new(Request::get(address).body(Vec::new()).unwrap()).may_be_old(hour, hour);
    let response = || Response::builder().header("content-type", "application/json").body(vec![b' '; LENGTH]).unwrap();
    let others = (0..OTHERS).map(|nth| format!("https://accounts.as.example/tenants/{nth:08x}/keys"));
    let addresses: Vec<_> = others.chain([ADDRESS.to_owned()]).collect();
    let mut documents = Documents::new();
    for address in &addresses {
        let Look::Fetch(ticket) = documents.look(&call(address), now) else { panic!("nobody has read it") };
        documents.settle(ticket, now, Ok(response())).unwrap();
    }
    let call = call(ADDRESS);
    let hit = move || match documents.look(&call, now) {
        Look::Have(document) => document.response(now),
        other => panic!("{other:?}"),
    };
    let plain: BTreeMap<_, _> = addresses.into_iter().map(|address| (address, response())).collect();
    let floor = move || {
        let mut response = plain.get(ADDRESS).expect("it is there").clone();
        response.headers_mut().insert(AGE, HeaderValue::from(0_u64));
        response
    };
    vec![Work::new("found and copied", hit), Work::new("a map of texts, and a copy", floor)]
}
