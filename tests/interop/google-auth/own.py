"""The requests of google-auth for credentials of Google's own, recorded by `federation.py`; a token that a key signs itself
counts as a request, so that it is compared as one."""

import os
from unittest import mock

from google.auth import compute_engine, iam
from google.auth.transport import requests
from google.oauth2 import gdch_credentials, service_account
from google.oauth2.credentials import Credentials

SCOPES = ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/devstorage.read_only"]
AUDIENCE = "https://run.example"
EMAIL = "svc-demo@demo-project.iam.gserviceaccount.com"


def self_signed(credentials, audience):
    credentials._create_self_signed_jwt(audience)
    credentials.refresh(None)
    return [{"method": "SIGN", "url": "", "headers": {"authorization": "Bearer " + credentials.token}, "body": ""}]


def signed_blob(recorder, credentials):
    iam.Signer(recorder, credentials, EMAIL).sign(b"hello")


def cases(case, read, user):
    """By the name of each case, its requests."""
    key = service_account.Credentials.from_service_account_info
    account, alone = read("key.json"), key(read("key.json"), scopes=SCOPES, always_use_jwt_access=True)
    gdch = gdch_credentials.ServiceAccountCredentials.from_service_account_info(read("gdch.json"))
    person = read("authorized_user.json")
    rest = {name: person[name] for name in ["refresh_token", "client_id", "client_secret"]}
    bounded = key(account, scopes=SCOPES)
    bounded.token = "ya29.token"
    return {
        "assertion": case(key(account, scopes=SCOPES)),
        "assertion for a user": case(key(account, scopes=SCOPES[1:], subject="alice@example.com")),
        "self-signed for scopes": case(alone, lambda _: self_signed(alone, None)),
        "self-signed for an audience": case(None, lambda _: self_signed(key(account), "https://storage.googleapis.com/")),
        "ID token of a key": case(service_account.IDTokenCredentials.from_service_account_info(account, target_audience=AUDIENCE)),
        "user": case(Credentials(None, token_uri="https://oauth2.googleapis.com/token", **rest)),
        "metadata server": case(compute_engine.Credentials(scopes=SCOPES)),
        "ID token of the metadata server": case(
            None, lambda recorder: compute_engine.IDTokenCredentials(recorder, AUDIENCE, use_metadata_identity_endpoint=True).refresh(recorder)
        ),
        "GDCH": case(gdch.with_gdch_audience("https://storage.demo.example"), lambda _: gdch.with_gdch_audience(
            "https://storage.demo.example").refresh(requests.Request())),
        "signBlob": case(user, lambda recorder: signed_blob(recorder, user)),
        "regional access boundary": case(None, lambda recorder: bounded._lookup_regional_access_boundary(recorder) and None),
    }


def with_variables(make):
    """AWS by variables alone."""
    aws = {"AWS_REGION": "us-east-2", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    with mock.patch.dict(os.environ, aws):
        return make()
