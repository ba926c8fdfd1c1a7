"""What a Python program does with a file of user credentials: reads it, refreshes with it, writes it.

peer.py SERVER READ WRITE, where READ is a token.json, or `default` for application default credentials. Whatever
google-auth would send to Google's token endpoint goes to SERVER instead. Prints what it saw, in JSON.
"""

import json
import sys

import google.auth
from google.auth.transport import requests
from google.oauth2.credentials import Credentials

GOOGLE = "https://oauth2.googleapis.com/"


class Pretend(requests.Request):
    def __call__(self, url, **kwargs):
        assert url.startswith(GOOGLE), url
        return super().__call__(url.replace(GOOGLE, server + "/"), **kwargs)


server, read, write = sys.argv[1:]
if read == "default":
    credentials, _ = google.auth.default()
else:
    credentials = Credentials.from_authorized_user_file(read)
found = {
    "token": credentials.token,
    "valid": credentials.valid,
    "scopes": credentials.scopes,
    "quota_project_id": credentials.quota_project_id,
}
credentials.refresh(Pretend())
assert credentials.valid
with open(write, "w") as file:
    file.write(credentials.to_json())
print(json.dumps(found | {"new_token": credentials.token}))
