//! Gets a token that can read one bucket of Cloud Storage and nothing else, to be given away: `downscope BUCKET`.

use grantflow_ureq::grantflow::google::{AccessBoundaryRule, Downscoped};
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bucket = std::env::args().nth(1).ok_or("usage: downscope BUCKET")?;
    let transport = Transport::new()?;
    let resource = format!("//storage.googleapis.com/projects/_/buckets/{bucket}");
    let rule = AccessBoundaryRule::new(&resource, ["inRole:roles/storage.objectViewer"]);
    let source = Downscoped::new(transport.google_search()?.credential, [rule])?;
    let tokens = TokenManager::new(&transport, source, Want::default());
    println!("a token for {bucket} alone that ends at {:?}", tokens.token()?.expires_at());
    Ok(())
}
