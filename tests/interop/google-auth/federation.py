"""The requests that google-auth makes for credentials of all kinds, as JSON: by the name of each case, the list of its requests, none of which is sent. `federation.py FOLDER TIME`: the folder holds what the files of the cases name.
"""

import datetime
import json
import os
import sys
from unittest import mock

import own
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AwsCredentials
from google.auth import _helpers, aws, downscoped, external_account_authorized_user, identity_pool, impersonated_credentials
from google.auth import pluggable, transport
from google.oauth2.credentials import Credentials

folder, now = sys.argv[1], datetime.datetime.fromtimestamp(int(sys.argv[2]), datetime.timezone.utc).replace(tzinfo=None)
SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
IMDS = {
    "/latest/api/token": "AQAEADemoSession==",
    "/latest/meta-data/placement/availability-zone": "us-east-2b",
    "/latest/platform": json.dumps({"value": "subject"}),
    "/latest/meta-data/iam/security-credentials": "demo-role",
    "/latest/meta-data/iam/security-credentials/demo-role": json.dumps(
        {"Code": "Success", "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret", "Token": "token"}
    ),
}


class Answer(transport.Response):
    def __init__(self, body, kind="application/json"):
        self.body = body
        self.headers = {"content-type": kind, "metadata-flavor": "Google"}

    status, headers = 200, {}

    @property
    def data(self):
        return self.body.encode()


class Recorder(transport.Request):
    """Answers each request as Google and AWS would, and remembers it."""

    def __init__(self):
        self.requests = []

    def __call__(self, url, method="GET", body=None, headers=None, **_):
        text = lambda value: value.decode() if isinstance(value, bytes) else value
        headers = {text(name): text(value) for name, value in (headers or {}).items()}
        self.requests.append({"method": method, "url": url, "headers": headers, "body": text(body) or ""})
        if url.startswith("http://169.254.169.254"):
            return Answer(IMDS[url.removeprefix("http://169.254.169.254").split("?")[0]])
        if "?recursive=true" in url:
            return Answer(json.dumps({"email": own.EMAIL, "scopes": [SCOPE]}))
        if "/identity?" in url:
            return Answer("e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln", "text/html")
        if url.endswith("/allowedLocations"):
            return Answer(json.dumps({"locations": ["europe-west1"], "encodedLocations": "0xA30"}))
        if ":signBlob" in url:
            return Answer(json.dumps({"signedBlob": "aGVsbG8=", "keyId": "k"}))
        if ":generateAccessToken" in url:
            return Answer(json.dumps({"accessToken": "ya29.imp", "expireTime": "2099-11-20T13:00:00Z"}))
        if ":generateIdToken" in url:
            return Answer(json.dumps({"token": "e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln"}))
        if ":signJwt" in url:
            return Answer(json.dumps({"signedJwt": "a.b.c", "keyId": "k"}))
        return Answer(json.dumps({"access_token": "ya29.sts", "expires_in": 3600, "token_type": "Bearer", "refresh_token": "next",
                                  "id_token": "e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln",
                                  "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}))


def case(credentials, act=None):
    """The requests of a refresh, or of something else; what that returns goes before them."""
    recorder = Recorder()

    def send(_, request, **__):
        """For those credentials that have a session of their own."""
        response = requests.Response()
        response.status_code = 200
        response.headers["content-type"] = "application/json"
        response._content = recorder(request.url, request.method, request.body, request.headers).data
        return response

    with mock.patch.object(_helpers, "utcnow", lambda: now), mock.patch("requests.adapters.HTTPAdapter.send", send):
        made = (act or credentials.refresh)(recorder)
    return (made or []) + recorder.requests


def read(name):
    with open(os.path.join(folder, name)) as file:
        return json.load(file)


def external(kind, name):
    return case(kind.from_info(read(name), scopes=[SCOPE]))


class User(Credentials):
    def refresh(self, _):
        """Its token is good."""


def user():
    return User("ya29.user", expiry=datetime.datetime(2099, 1, 1))


def impersonated(**more):
    target = "target@demo-project.iam.gserviceaccount.com"
    delegates = ["projects/-/serviceAccounts/middle@demo-project.iam.gserviceaccount.com"]
    return impersonated_credentials.Credentials(user(), target, [SCOPE], delegates=delegates, lifetime=1800, **more)


boundary = downscoped.CredentialAccessBoundary([
    downscoped.AccessBoundaryRule(
        "//storage.googleapis.com/projects/_/buckets/demo-bucket",
        ["inRole:roles/storage.objectViewer"],
        downscoped.AvailabilityCondition("resource.name.startsWith('x')", "t", "d"),
    )
])
found = {
    "file.json": external(identity_pool.Credentials, "file.json"),
    "url.json": external(identity_pool.Credentials, "url.json"),
    "workforce.json": external(identity_pool.Credentials, "workforce.json"),
    "client.json": external(identity_pool.Credentials, "client.json"),
    "impersonating.json": external(identity_pool.Credentials, "impersonating.json"),
    "executable.json": external(pluggable.Credentials, "executable.json"),
    "imds.json": external(aws.Credentials, "imds.json"),
    "variables.json": own.with_variables(lambda: external(aws.Credentials, "variables.json")),
    "certificate.json": external(identity_pool.Credentials, "certificate.json"),
    "user.json": case(external_account_authorized_user.Credentials.from_info(read("user.json"))),
    "impersonated": case(impersonated()),
    "id token": case(impersonated_credentials.IDTokenCredentials(impersonated(), "https://run.example", include_email=True)),
    "subject": case(impersonated(subject="alice@example.com")),
    "downscoped": case(downscoped.Credentials(user(), boundary)),
} | own.cases(case, read, user())


def signature(file, *key):
    """What AWS's own signer makes of the request that is signed for Google."""
    request = AWSRequest("POST", "https://sts.us-east-2.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15")
    request.headers["x-goog-cloud-target-resource"] = read(file)["audience"]
    with mock.patch("botocore.auth.get_current_datetime", lambda *_, **__: now):
        SigV4Auth(AwsCredentials("AKIDEXAMPLE", "secret", *key), "sts", "us-east-2").add_auth(request)
    return request.headers["Authorization"]


found["signature of imds.json"] = signature("imds.json", "token")
found["signature of variables.json"] = signature("variables.json")
print(json.dumps(found))
