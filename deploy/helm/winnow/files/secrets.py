"""Make a Secret of random values, unless it is there: so no value of one is in the release, or in anybody's hands."""

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path

account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
name, keys = os.environ["NAME"], os.environ["KEYS"].split(",")
place = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
body = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "winnow"}},
    "stringData": {key: secrets.token_hex(24) for key in keys},
}
request = urllib.request.Request(
    f"https://{place}/api/v1/namespaces/{(account / 'namespace').read_text()}/secrets",
    data=json.dumps(body).encode(),
    headers={"Authorization": f"Bearer {(account / 'token').read_text()}", "Content-Type": "application/json"},
)
try:
    urllib.request.urlopen(request, timeout=30, context=ssl.create_default_context(cafile=str(account / "ca.crt")))
    print(f"{name} is made")
except urllib.error.HTTPError as answer:
    if answer.code != 409:
        raise SystemExit(f"{name}: {answer.code} {answer.read()[:300].decode(errors='replace')}") from None
    print(f"{name} is there already")
