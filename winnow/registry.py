"""The registry: every bundle ever trained, and which one serves. A port, and MLflow behind it.

Each bundle is the artifacts of one MLflow run and one version of the registered model `winnow-<kind>`. Serving follows
the alias `champion`: moving the alias, here or in the MLflow UI, is the deploy; moving it back is the rollback. All
calls block (run them in a thread), answer within their time-outs and raise only `winnow.errors`. MLflow itself is
imported by the first call that needs it, because that takes seconds. What a bundle contains is not known here.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from winnow import registry_file, registry_http
from winnow.artifacts import MANIFEST, Bundle, Kind
from winnow.errors import NotFound, Unavailable
from winnow.secrets import without_credentials

P = ParamSpec("P")
T = TypeVar("T")

CHAMPION = "champion"  # serves
CHALLENGER = "challenger"  # was trained last and waits for a verdict or a person
SQLITE = "sqlite:///"
FOLDER = "bundle"  # of a run's artifacts
TAG = "winnow.bundle"  # holds the bundle's id
HTTP_TIMEOUT_S = 10
HTTP_RETRIES = 1
TRANSFER_TIMEOUT_S = 300
SQLITE_WAIT_S = 5.0
LONGEST_TAG = 5_000
KEPT_COPIES = 6  # of a remote registry's bundles, of each kind: at a refresh every 15 minutes a disk would fill in days

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(HTTP_TIMEOUT_S),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(HTTP_RETRIES),
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": str(TRANSFER_TIMEOUT_S),
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
}


@dataclass(frozen=True, slots=True)
class Version:
    """One registered bundle. `number` is the registry's own, rising; `bundle` is the bundle's id, "" when unknown."""

    kind: Kind
    number: str
    bundle: str = ""


class Registry(Protocol):
    """Where bundles are found. Every method raises Unavailable when the registry cannot be reached."""

    def champion(self, kind: Kind) -> Version | None:
        """The version that should serve now, or None while nothing is promoted. Cheap: meant to be polled."""
        ...

    def fetch(self, version: Version) -> Path:
        """A local folder with the bundle's files, downloaded once: what is here already needs no registry. NotFound
        when the version or its files are gone."""
        ...

    def register(self, bundle: Bundle, params: Mapping[str, Any] | None = None) -> Version:
        """Take a bundle in; the same bundle again gives the version it already has."""
        ...

    def promote(self, version: Version, alias: str = CHAMPION) -> None:
        """Point the alias at this version. NotFound when there is no such version."""
        ...

    def versions(self, kind: Kind) -> list[Version]:
        """Every version, newest first."""
        ...


def model_name(kind: Kind) -> str:
    return f"winnow-{kind}"


Own = TypeVar("Own", bound="MlflowRegistry")
Look = Callable[[Path, str, str, str, float], registry_file.Row | None]
Ask = Callable[[str, str, str, str], registry_file.Row | None]


def translated(method: Callable[Concatenate[Own, P], T]) -> Callable[Concatenate[Own, P], T]:
    """MLflow's errors, and those of the libraries it lets through, as the platform's."""

    @wraps(method)
    def call(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> T:
        client_errors = self.errors()
        try:
            return method(self, *args, **kwargs)
        except client_errors as broken:
            if getattr(broken, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                raise NotFound(first_line(broken)) from broken
            raise Unavailable(f"registry {without_credentials(self.uri)}: {first_line(broken)}") from broken

    return call


class MlflowRegistry:
    """MLflow at `uri`: `sqlite:///path/mlflow.db` (artifacts in `mlartifacts` beside it) or a server's http address.

    `cache` is where bundles of a remote artifact store are kept, one folder per bundle; local ones are read in place.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        self.uri = uri
        self.cache = cache
        self._database = Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None
        self._client: Any = None
        self._lock = threading.Lock()

    def champion(self, kind: Kind) -> Version | None:
        return self.holder(kind, CHAMPION)

    def holder(self, kind: Kind, alias: str) -> Version | None:
        """The version that an alias points at, or None."""
        if self._database is not None and not self._database.exists():
            return None
        try:
            row = self._read(registry_file.by_alias, registry_http.by_alias, kind, alias)
        except registry_file.Unfamiliar:
            return self._holder(kind, alias)
        return None if row is None else Version(kind, row.number, row.tag)

    def fetch(self, version: Version) -> Path:
        cached = self._cached(version)
        if not (cached / MANIFEST).is_file():
            return self._fetch(version, cached)
        with suppress(OSError):  # where copies cannot be written, they cannot pile up either
            os.utime(cached)
        return cached

    @translated
    def register(self, bundle: Bundle, params: Mapping[str, Any] | None = None) -> Version:
        known = self._find(bundle.kind, f" and tag.`{TAG}` = '{bundle.id}'")
        if known:
            return known[0]
        client, name = self._open(), model_name(bundle.kind)
        run = client.create_run(self._experiment(name), run_name=bundle.id, tags=self._tags(bundle))
        run_id = run.info.run_id
        for key, value in (params or {}).items():
            client.log_param(run_id, metric_name(key), str(value)[:500])
        for key, number in bundle.metrics.items():
            if math.isfinite(number):
                client.log_metric(run_id, metric_name(key), float(number))
        client.log_artifacts(run_id, str(bundle.path), FOLDER)
        client.set_terminated(run_id)
        self._create(lambda: client.create_registered_model(name))
        source = f"{run.info.artifact_uri}/{FOLDER}"
        made = client.create_model_version(name, source=source, run_id=run_id, tags=self._tags(bundle))
        return Version(bundle.kind, str(made.version), bundle.id)

    @translated
    def promote(self, version: Version, alias: str = CHAMPION) -> None:
        client, name = self._open(), model_name(version.kind)
        client.get_model_version(name, version.number)
        client.set_registered_model_alias(name, alias, version.number)

    @translated
    def notes(self, version: Version) -> dict[str, str]:
        """The tags of a version, which MLflow shows beside it. NotFound when there is no such version."""
        return dict(self._open().get_model_version(model_name(version.kind), version.number).tags)

    @translated
    def note(self, version: Version, tag: str, text: str) -> None:
        """Keep a tag with a version, at most 5,000 characters of it. NotFound when there is no such version."""
        self._open().set_model_version_tag(model_name(version.kind), version.number, tag, text[:LONGEST_TAG])

    @translated
    def forget(self, version: Version) -> None:
        """Delete a version with its files; who still serves it has them in memory. NotFound when there is no such."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client, name = self._open(), model_name(version.kind)
        found = client.get_model_version(name, version.number)
        client.delete_model_version(name, version.number)
        get_artifact_repository(found.source, tracking_uri=self.uri).delete_artifacts()
        client.delete_run(found.run_id)
        shutil.rmtree(self._cached(version), ignore_errors=True)

    def versions(self, kind: Kind) -> list[Version]:
        if self._database is not None and not self._database.exists():
            return []
        return sorted(self._versions(kind), key=lambda version: int(version.number), reverse=True)

    def errors(self) -> tuple[type[Exception], ...]:
        """What a call to MLflow can raise when something outside this process is wrong."""
        prepare()
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        if self._database is None:
            return (MlflowException, RequestException, OSError)
        from sqlalchemy.exc import SQLAlchemyError

        return (MlflowException, RequestException, OSError, SQLAlchemyError, sqlite3.Error)

    @translated
    def _holder(self, kind: Kind, alias: str) -> Version | None:
        from mlflow.exceptions import MlflowException

        try:
            found = self._open().get_model_version_by_alias(model_name(kind), alias)
        except MlflowException as absent:  # no such model; a model without this alias
            if absent.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return Version(kind, str(found.version), found.tags.get(TAG, ""))

    @translated
    def _versions(self, kind: Kind) -> list[Version]:
        return self._find(kind)

    def _cached(self, version: Version) -> Path:
        return self.cache / f"{version.kind}-{version.number}-{version.bundle or 'bundle'}"

    def _fetch(self, version: Version, target: Path) -> Path:
        source = self._source(version)
        local = Path(source.removeprefix("file://"))
        if not local.is_absolute():
            self._download(source, target)
            self._drop_old_copies(version.kind)
            return target
        if not (local / MANIFEST).is_file():
            raise NotFound(f"{model_name(version.kind)} version {version.number}: its files are gone from {local}")
        return local

    def _drop_old_copies(self, kind: Kind) -> None:
        """Those that were fetched longest ago. Who still serves one has it in memory."""
        copies = [(path.stat().st_mtime, path) for path in self.cache.glob(f"{kind}-*") if path.is_dir()]
        for _, old in sorted(copies)[:-KEPT_COPIES]:
            shutil.rmtree(old, ignore_errors=True)

    def _source(self, version: Version) -> str:
        """Where the files of a version are."""
        if self._database is not None and not self._database.exists():
            return self._asked_source(version)
        try:
            row = self._read(registry_file.by_number, registry_http.by_number, version.kind, version.number)
        except registry_file.Unfamiliar:
            return self._asked_source(version)
        if row is None:
            raise NotFound(f"{model_name(version.kind)} has no version {version.number}")
        return row.source

    @translated
    def _asked_source(self, version: Version) -> str:
        return str(self._open().get_model_version(model_name(version.kind), version.number).source)

    def _read(self, look: Look, ask: Ask, kind: Kind, wanted: str) -> registry_file.Row | None:
        """One look into the file, or one question to the server. Raises Unavailable, registry_file.Unfamiliar."""
        try:
            if self._database is None:
                return ask(self.uri, model_name(kind), wanted, TAG)
            return look(self._database, model_name(kind), wanted, TAG, SQLITE_WAIT_S)
        except (sqlite3.Error, Unavailable) as broken:
            raise Unavailable(f"registry {without_credentials(self.uri)}: {first_line(broken)}") from broken

    def _open(self) -> Any:
        """The MLflow client, made once. A damaged database is found here: MLflow would retry it for 100 s."""
        with self._lock:
            if self._client is None:
                from mlflow.tracking import MlflowClient

                if self._database is not None:
                    self._database.parent.mkdir(parents=True, exist_ok=True)
                    with closing(sqlite3.connect(self._database, timeout=SQLITE_WAIT_S)) as probe:
                        probe.execute("PRAGMA schema_version").fetchone()
                self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            return self._client

    def _experiment(self, name: str) -> str:
        client = self._open()
        beside = None if self._database is None else str(self._database.parent / "mlartifacts")
        self._create(lambda: client.create_experiment(name, artifact_location=beside))
        return str(client.get_experiment_by_name(name).experiment_id)

    def _create(self, create: Callable[[], object]) -> None:
        """Create something that may be there already."""
        from mlflow.exceptions import MlflowException

        try:
            create()
        except MlflowException as there:
            if there.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _find(self, kind: Kind, condition: str = "") -> list[Version]:
        client, found, token = self._open(), [], None
        while True:
            page = client.search_model_versions(f"name='{model_name(kind)}'{condition}", page_token=token)
            found += [Version(kind, str(v.version), v.tags.get(TAG, "")) for v in page]
            token = page.token
            if not token:
                return found

    def _tags(self, bundle: Bundle) -> dict[str, str]:
        return {TAG: bundle.id} | {f"data.{name}": str(value)[:500] for name, value in bundle.data.items()}

    def _download(self, source: str, target: Path) -> None:
        """Whole or not at all: into a folder beside the target, then renamed."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".download-") as folder:
            try:
                got = Path(folder) / FOLDER
                registry_http.download(self.uri, source, got)
            except registry_file.Unfamiliar:
                got = self._asked_files(source, folder)
            if not (got / MANIFEST).is_file():
                raise NotFound(f"{source} holds no {MANIFEST}")
            if target.exists():  # an earlier, broken copy
                shutil.rmtree(target)
            got.rename(target)

    @translated
    def _asked_files(self, source: str, folder: str) -> Path:
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=self.uri))


def prepare() -> None:
    """Time-outs and silence, set before MLflow is imported; what the environment already says wins."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def metric_name(name: str) -> str:
    """A name that MLflow takes: `ndcg@10` becomes `ndcg_at_10`."""
    return re.sub(r"[^\w.\-/ ]", "_", name.replace("@", "_at_"))


def first_line(error: Exception) -> str:
    return without_credentials(str(error).strip().split("\n")[0])[:300]
