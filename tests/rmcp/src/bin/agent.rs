//! An agent that lists the tools of a server again and again: `agent <address> <folder of the store> <seconds>`.
//!
//! Start it as often as you like: one process has you sign in, and all share the grant.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::register::ClientMetadata;
use grantflow_reqwest::grantflow::resource::ProtectedResource;
use grantflow_reqwest::grantflow_store::FileStore;
use grantflow_rmcp::GrantStore;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{AuthClient, StreamableHttpClientTransport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (address, folder) = (words.next().ok_or("an address")?, words.next().ok_or("a folder")?);
    let end = Instant::now() + Duration::from_secs(words.next().ok_or("seconds")?.parse()?);

    let transport = Transport::new()?.with_store(Arc::new(FileStore::new(folder)));
    let resource = ProtectedResource::mcp(&address)?.register(ClientMetadata::new().client_name("grantflow-rmcp"));
    // The address to sign in at is printed.
    let store = GrantStore::sign_in(&transport, &resource.app(|app| app.open_browser(false)), "").await?;

    let client = AuthClient::new(transport.client_builder().build()?, store.manager().await?);
    let config = StreamableHttpClientTransportConfig::with_uri(address);
    let service = ().serve(StreamableHttpClientTransport::with_client(client, config)).await?;
    let mut calls = 0;
    while Instant::now() < end {
        service.list_tools(None).await?;
        calls += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{calls} calls");
    service.cancel().await?;
    Ok(())
}
