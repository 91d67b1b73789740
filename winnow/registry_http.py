"""Asks an MLflow server for one version, and for its files, by REST without MLflow, whose import costs seconds in every
serving process (https://mlflow.org/docs/latest/api_reference/rest-api.html).

Reads only. Whatever is not as it is known here (another way of logging in, another artifact store) is not guessed at:
`Unfamiliar`, and MLflow's own client is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

from winnow.errors import NotFound, Unavailable
from winnow.registry_file import Row, Unfamiliar

PROXIED = "mlflow-artifacts:/"  # artifacts that the server itself hands out
ALIAS, VERSION = "/api/2.0/mlflow/registered-models/alias", "/api/2.0/mlflow/model-versions/get"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; a model without this alias
SPECIAL = ("MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_AUTH")
"""Settings of MLflow's client for servers that want more than a name and a word, or a token."""
TIMEOUT_S = 10.0
MAX_FILES = 1_000
MAX_DEPTH = 8


def by_alias(server: str, name: str, alias: str, tag: str) -> Row | None:
    """The version that the alias of the registered model points at. Raises Unavailable, Unfamiliar."""
    return _row(server, ALIAS, {"name": name, "alias": alias}, tag)


def by_number(server: str, name: str, number: str, tag: str) -> Row | None:
    """The version of this number. Raises Unavailable, Unfamiliar."""
    return _row(server, VERSION, {"name": name, "version": number}, tag)


def download(server: str, source: str, target: Path) -> None:
    """The files below an artifact URI into an empty folder. NotFound where there are none; Unavailable, Unfamiliar."""
    if not source.startswith(PROXIED):
        raise Unfamiliar(source)
    with _session(server) as session:
        found = list(_files(session, source.removeprefix(PROXIED).strip("/"), PurePosixPath()))
        if not found:
            raise NotFound(f"{source} holds no files")
        for path, below in found:
            _file(session, path, target / below)


def _row(server: str, path: str, question: Mapping[str, str], tag: str) -> Row | None:
    with _session(server) as session:
        answer = session.get(path, params=dict(question))
        if _absent(answer):
            return None
        try:
            found = _json(answer)["model_version"]
            tags = {one["key"]: one.get("value", "") for one in found.get("tags", [])}
            return Row(str(found["version"]), str(found["source"]), str(tags.get(tag, "")))
        except (AttributeError, KeyError, TypeError) as other:
            raise Unfamiliar(f"{path} answers in another form: {other!r}") from other


def _files(session: httpx.Client, folder: str, below: PurePosixPath) -> Iterator[tuple[str, PurePosixPath]]:
    """(path on the server, path below the first folder) of each file."""
    if len(below.parts) > MAX_DEPTH:
        raise Unfamiliar(f"{folder} lies too deep")
    listed = session.get(ARTIFACTS, params={"path": folder})
    entries = [] if _absent(listed) else _json(listed).get("files", [])
    if len(entries) > MAX_FILES:
        raise Unfamiliar(f"{folder} holds {len(entries)} files")
    for entry in entries:
        name = PurePosixPath(entry["path"]).name  # a name of its own, whatever the server says: never a way out
        if entry.get("is_dir"):
            yield from _files(session, f"{folder}/{name}", below / name)
        else:
            yield f"{folder}/{name}", below / name


def _file(session: httpx.Client, path: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with session.stream("GET", f"{ARTIFACTS}/{path}") as answer, target.open("wb") as file:
        if answer.status_code != httpx.codes.OK:
            answer.read()
            _json(answer)
        for chunk in answer.iter_bytes():
            file.write(chunk)


def _absent(answer: httpx.Response) -> bool:
    if answer.status_code not in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
        return False
    try:
        return answer.json().get("error_code") in ABSENT
    except (ValueError, AttributeError):
        return False


def _json(answer: httpx.Response) -> dict[str, Any]:
    """What an answer says; Unavailable for a failure, Unfamiliar for what is no answer of MLflow."""
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND):
        raise Unfamiliar(f"status {answer.status_code}")
    if answer.status_code != httpx.codes.OK:
        raise Unavailable(f"status {answer.status_code}: {answer.text[:200]}")
    try:
        found = answer.json()
    except ValueError as other:
        raise Unfamiliar("no JSON") from other
    if not isinstance(found, dict):
        raise Unfamiliar("no object")
    return found


@contextmanager
def _session(server: str) -> Iterator[httpx.Client]:
    """Logged in as MLflow's own settings say."""
    if any(os.environ.get(name) for name in SPECIAL):
        raise Unfamiliar("the server wants a special log-in")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    if insecure or authority:
        raise Unfamiliar("the server has a certificate of its own")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    try:
        yield _client(server, token, user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    except httpx.HTTPError as away:
        raise Unavailable(str(away) or type(away).__name__) from away


@lru_cache(maxsize=8)
def _client(server: str, token: str, user: str, password: str) -> httpx.Client:
    """Kept from poll to poll: making one reads the system's authorities, some 30 ms of a core each time."""
    return httpx.Client(
        base_url=server,
        timeout=TIMEOUT_S,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        auth=(user, password) if user else None,
    )
