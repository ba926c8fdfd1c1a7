//! Lists the tools of a server and calls the first one: `mcp_ureq http://localhost:8080/mcp`.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use grantflow_mcp::{Conversation, Message, first_tool, setup};
use grantflow_ureq::grantflow::{Error as GrantError, ErrorKind};
use grantflow_ureq::{ResourceAgent, Transport};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().next_back().unwrap_or_default();
    let transport = Transport::new()?;
    let transport = match setup::store() {
        Some(store) => transport.with_store(Arc::new(store)),
        None => transport,
    };
    let resource = setup::resource(&address, |resource| {
        let metadata = transport.run(resource.discover())?;
        let first = metadata.authorization_servers().first().cloned();
        first.ok_or_else(|| GrantError::new(ErrorKind::Config, "there is no authorization server"))
    })?;
    let server = Server { agent: ResourceAgent::new(&transport, resource.clone(), "")?, address };
    let mut conversation = Conversation::new();
    for message in conversation.handshake() {
        server.say(&mut conversation, &message)?;
    }
    let message = conversation.list_tools();
    let tools = server.say(&mut conversation, &message)?;
    for nth in 0..setup::calls() {
        let Some(tool) = first_tool(&tools) else { break };
        if nth > 0 {
            thread::sleep(Duration::from_millis(700));
        }
        let message = conversation.call_tool(&tool);
        println!("{tool}: {}", server.say(&mut conversation, &message)?);
    }
    if setup::signs_out() {
        let access = transport.run(resource.find())?;
        transport.sign_out(&access.app()?, "")?;
    }
    Ok(())
}

struct Server {
    agent: ResourceAgent,
    address: String,
}

impl Server {
    /// Posts a message and hears the answer.
    fn say(&self, conversation: &mut Conversation, message: &Message) -> Result<Value, Box<dyn Error>> {
        let mut request = http::Request::post(&self.address).body(message.body.clone())?;
        *request.headers_mut() = conversation.headers_of(message);
        let mut response = self.agent.run_as(&message.method, request)?;
        let body = response.body_mut().read_to_string()?;
        Ok(conversation.hear(message, response.status().as_u16(), response.headers(), &body)?)
    }
}
