"""The clients here against fastmcp and its provider in memory, on loopback: `python with_fastmcp.py <binary> ...`, or `run fastmcp`.

Each signs in, calls a tool again and again while its token ends and is refreshed, is asked for one more scope on the way, and signs
out. The provider's own code does all of it; what is added here counts, and asks for the scope.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions, RevocationOptions
from fastmcp.server.auth.providers import in_memory

LIFE = 4
CALLS = 16
# The call after which the server wants a scope more.
MORE_AFTER = 4

in_memory.DEFAULT_ACCESS_TOKEN_EXPIRY_SECONDS = LIFE


class Counting(in_memory.InMemoryOAuthProvider):
    """The provider, which counts what it is asked for."""

    def __init__(self, base_url):
        scopes = ["read", "write"]
        super().__init__(
            base_url=base_url,
            client_registration_options=ClientRegistrationOptions(
                enabled=True, valid_scopes=scopes, default_scopes=scopes
            ),
            revocation_options=RevocationOptions(enabled=True),
            required_scopes=["read"],
        )
        self.seen = {"registered": 0, "signed_in": [], "refreshed": 0, "unknown_refresh_tokens": 0, "revoked": 0}

    async def register_client(self, client_info):
        self.seen["registered"] += 1
        return await super().register_client(client_info)

    async def exchange_authorization_code(self, client, authorization_code):
        self.seen["signed_in"].append(" ".join(sorted(authorization_code.scopes)))
        return await super().exchange_authorization_code(client, authorization_code)

    async def load_refresh_token(self, client, refresh_token):
        found = await super().load_refresh_token(client, refresh_token)
        self.seen["unknown_refresh_tokens"] += found is None
        return found

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        self.seen["refreshed"] += 1
        return await super().exchange_refresh_token(client, refresh_token, scopes)

    async def revoke_token(self, token):
        self.seen["revoked"] += 1
        return await super().revoke_token(token)


def run(binary):
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    provider = Counting(origin)
    server = FastMCP("pretend", auth=provider)
    calls = 0

    @server.tool
    def count() -> int:
        """How often it was called."""
        nonlocal calls
        calls += 1
        if calls == MORE_AFTER:
            # Its middleware looks at this list for each request, and names it in the challenge.
            provider.required_scopes.append("write")
        return calls

    uvicorn_server = uvicorn.Server(uvicorn.Config(server.http_app(), log_level="warning", lifespan="on"))
    serving = threading.Thread(target=lambda: asyncio.run(uvicorn_server.serve(sockets=[listener])), daemon=True)
    serving.start()
    with tempfile.TemporaryDirectory() as store:
        said = {"MCP_STORE": store, "MCP_CALLS": str(CALLS), "MCP_SIGN_OUT": "1"}
        client = subprocess.run([binary, f"{origin}/mcp"], env=os.environ | said, timeout=120, text=True, capture_output=True)
    # The tokens of the sign-in before are other ones, and end by themselves.
    tokens = [*provider.access_tokens.values(), *provider.refresh_tokens.values()]
    left = sum("write" in token.scopes for token in tokens)
    uvicorn_server.should_exit = True
    serving.join(10)

    name, seen = os.path.basename(binary), provider.seen
    print(f"{name}: {calls} calls, {left} tokens left, {json.dumps(seen)}")
    assert client.returncode == 0, client.stderr[-2000:]
    assert calls == CALLS and left == 0, "a call failed, or the sign-out revoked nothing"
    assert seen["registered"] == 1 and seen["unknown_refresh_tokens"] == 0 and seen["revoked"] >= 1
    assert seen["signed_in"] == ["read", "read write"], "one sign-in, and one more for the scope"
    assert seen["refreshed"] >= 2


for each in sys.argv[1:]:
    run(each)
