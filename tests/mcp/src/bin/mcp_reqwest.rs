//! Lists the tools of a server and calls the first one: `mcp_reqwest http://localhost:8080/mcp`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use grantflow_mcp::{Conversation, Message, first_tool, setup};
use grantflow_reqwest::grantflow::{Error as GrantError, ErrorKind};
use grantflow_reqwest::{ResourceClient, Transport};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().next_back().unwrap_or_default();
    let transport = Transport::new()?;
    let transport = match setup::store() {
        Some(store) => transport.with_store(Arc::new(store)),
        None => transport,
    };
    let blocking = tokio::runtime::Handle::current();
    let resource = tokio::task::block_in_place(|| {
        setup::resource(&address, |resource| {
            let metadata = blocking.block_on(transport.run(resource.discover()))?;
            let first = metadata.authorization_servers().first().cloned();
            first.ok_or_else(|| GrantError::new(ErrorKind::Config, "there is no authorization server"))
        })
    })?;
    let server = Server { client: ResourceClient::new(&transport, resource.clone(), "")?, address };
    let mut conversation = Conversation::new();
    for message in conversation.handshake() {
        server.say(&mut conversation, &message).await?;
    }
    let message = conversation.list_tools();
    let tools = server.say(&mut conversation, &message).await?;
    for nth in 0..setup::calls() {
        let Some(tool) = first_tool(&tools) else { break };
        if nth > 0 {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        let message = conversation.call_tool(&tool);
        println!("{tool}: {}", server.say(&mut conversation, &message).await?);
    }
    if setup::signs_out() {
        let access = transport.run(resource.find()).await?;
        transport.sign_out(&access.app()?, "").await?;
    }
    Ok(())
}

struct Server {
    client: ResourceClient,
    address: String,
}

impl Server {
    /// Posts a message and hears the answer.
    async fn say(&self, conversation: &mut Conversation, message: &Message) -> Result<Value, Box<dyn Error>> {
        let request = self.client.post(&self.address).headers(conversation.headers_of(message));
        let response = self.client.send_as(&message.method, request.body(message.body.clone())).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await?;
        Ok(conversation.hear(message, status, &headers, &body)?)
    }
}
