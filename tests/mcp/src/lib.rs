//! What a client of the Model Context Protocol says and hears, without any input or output: messages of JSON-RPC over
//! streamable HTTP, in both eras of the protocol. Through 2025-11-25 it begins with a handshake, from 2026-07-28 on each
//! request says for itself what the client is.

use std::env;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};

pub mod setup;

/// The first version that needs no handshake.
const STATELESS: &str = "2026-07-28";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// A conversation with one server.
pub struct Conversation {
    version: String,
    session: Option<HeaderValue>,
    next: u64,
}

/// A message to post.
pub struct Message {
    /// The method: the name of the operation.
    pub method: String,
    pub headers: HeaderMap,
    pub body: String,
    /// The number of the answer; none of a notification.
    id: Option<u64>,
}

impl Conversation {
    /// In the version that the suite asks for.
    pub fn new() -> Self {
        let version = env::var("MCP_CONFORMANCE_PROTOCOL_VERSION").unwrap_or_else(|_| "2025-11-25".into());
        Self { version, session: None, next: 1 }
    }

    /// What comes before the first request.
    pub fn handshake(&mut self) -> Vec<Message> {
        if self.version.as_str() >= STATELESS {
            return Vec::new();
        }
        let params = json!({"protocolVersion": self.version, "capabilities": {}, "clientInfo": client()});
        let initialize = self.request("initialize", params);
        let headers = self.headers("notifications/initialized", None);
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        let initialized = Message { method: "notifications/initialized".into(), headers, body, id: None };
        vec![initialize, initialized]
    }

    pub fn list_tools(&mut self) -> Message {
        self.request("tools/list", json!({}))
    }

    pub fn call_tool(&mut self, name: &str) -> Message {
        self.request("tools/call", json!({"name": name, "arguments": setup::arguments()}))
    }

    fn request(&mut self, method: &str, mut params: Value) -> Message {
        if self.version.as_str() >= STATELESS {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": self.version,
                "io.modelcontextprotocol/clientInfo": client(),
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let (id, name) = (self.next, params.get("name").and_then(Value::as_str).map(str::to_owned));
        self.next += 1;
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        Message { method: method.into(), headers: self.headers(method, name.as_deref()), body, id: Some(id) }
    }

    fn headers(&self, method: &str, name: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        put("mcp-protocol-version", &self.version);
        if self.version.as_str() >= STATELESS {
            put("mcp-method", method);
            name.into_iter().for_each(|name| put("mcp-name", name));
        }
        headers
    }

    /// The headers of a message as of now: a session may have begun since it was made.
    pub fn headers_of(&self, message: &Message) -> HeaderMap {
        let mut headers = message.headers.clone();
        self.session.iter().for_each(|session| drop(headers.insert(SESSION, session.clone())));
        headers
    }

    /// Reads an answer: the result, or what went wrong.
    pub fn hear(&mut self, message: &Message, status: u16, headers: &HeaderMap, body: &str) -> Result<Value, String> {
        if !(200..300).contains(&status) {
            return Err(format!("{}: status {status}: {body:.200}", message.method));
        }
        self.session = headers.get(SESSION).cloned().or(self.session.take());
        let Some(id) = message.id else { return Ok(Value::Null) };
        let is_stream = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let found = match is_stream {
            true => events(body).find(|event| event["id"] == id),
            false => serde_json::from_str(body).ok(),
        };
        let answer: Value = found.ok_or_else(|| format!("{}: there is no answer", message.method))?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(format!("{}: {}", message.method, answer["error"])),
        }
    }
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

/// The messages of a stream of events.
fn events(body: &str) -> impl Iterator<Item = Value> {
    let data = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
    };
    body.split("\n\n").filter_map(move |event| serde_json::from_str(&data(&event.replace('\r', ""))).ok())
}

fn client() -> Value {
    json!({"name": "grantflow-mcp", "version": "0"})
}

/// The first tool of a list.
pub fn first_tool(tools: &Value) -> Option<String> {
    Some(tools["tools"].as_array()?.first()?["name"].as_str()?.to_owned())
}
