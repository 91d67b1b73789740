"""Models of bundles on Triton: published, loaded, kept loaded while somebody holds them, unloaded after.

Who holds a model says so by holding the object. A switch to another bundle drops the old one, so the last request that
still runs on it is also what keeps it; `keep_s` later it is unloaded, and until then a rollback finds it in place. One
thread does the keeping: it renews leases (`winnow.model_repository`), loads again what the server has lost, and unloads
what no process uses.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVarTuple, Unpack

from winnow.artifacts import Bundle
from winnow.errors import WinnowError
from winnow.inference import Model
from winnow.model_repository import ModelRepository, Running, name_of
from winnow.serving.shared_memory import Regions, SharedTritonModel
from winnow.serving.triton import ModelBroken, TritonModel, TritonServer
from winnow.serving.triton_settings import TritonSettings

Args = TypeVarTuple("Args")
Source = tuple[Bundle, str]  # what a model is published from, and which part of it

log = logging.getLogger(__name__)

EVERY_S = 1.0  # the keeper looks
CLOSE_S = 5.0


class TritonHost:
    """The models of this process on one server (`winnow.inference.ModelHost`). `shared`: inputs by shared memory."""

    def __init__(
        self,
        server: TritonServer,
        repository: ModelRepository,
        *,
        timeout_s: float = 1.0,
        keep_s: float = 30.0,
        shared: bool = False,
        every_s: float = EVERY_S,
    ) -> None:
        self._server = server
        self._repository = repository
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._every_s = every_s
        self._regions = Regions(server) if shared else None
        self._lock = threading.Lock()
        self._loading: list[str] = []
        self._held: weakref.WeakKeyDictionary[TritonModel, Source] = weakref.WeakKeyDictionary()
        self._failing: set[str] = set()
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_on, name="triton-keeper", daemon=True)
        self._keeper.start()

    def load(self, bundle: Bundle, parts: Sequence[str]) -> dict[str, Model]:
        """All parts at once: most of a load is the server's own start of an instance."""
        with ThreadPoolExecutor(len(parts), thread_name_prefix="triton-load") as pool:
            return dict(zip(parts, pool.map(lambda part: self._load(bundle, part), parts), strict=True))

    def close(self) -> None:
        """Models stay loaded: other processes may use them, and so may the next one here."""
        self._stopping.set()
        self._keeper.join(CLOSE_S)
        if self._regions is not None:
            self._regions.close()
        self._server.close()

    def _load(self, bundle: Bundle, part: str) -> TritonModel:
        name = name_of(bundle, part)
        with self._lock:
            self._loading.append(name)
        try:
            self._repository.publish(bundle, part)
            self._server.load(name)
            if self._fails(name):  # it was there already, and dead
                self._server.load(name)
            model = self._model(name)
            with self._lock:
                self._held[model] = bundle, part
            return model
        finally:
            with self._lock:
                self._loading.remove(name)

    def _model(self, name: str) -> TritonModel:
        if self._regions is None:
            return TritonModel(self._server, name, timeout_s=self._timeout_s)
        return SharedTritonModel(self._server, name, self._regions, timeout_s=self._timeout_s)

    # ------------------------------------------------------------------------------------------ keeping

    def _keep_on(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.keep()

    def keep(self) -> None:
        """One round. What cannot be done now is tried again in the next."""
        with self._lock:
            held, loading = list(self._held.items()), list(self._loading)
        for name in {*loading, *(model.name for model, _ in held)}:
            self._try(f"lease on {name}", self._repository.renew, name)
        for model, source in held:
            self._try(model.name, self._keep_loaded, model, source)
        self._try("unloading", self._unload_unused)

    def _keep_loaded(self, model: TritonModel, source: Source) -> None:
        if self._server.has(model.name) and not (model.in_doubt and self._fails(model.name)):
            return
        self._repository.publish(*source)
        self._server.load(model.name, self._keep_s / 2)  # leases must be renewed meanwhile
        log.warning("%s was lost by the server and is loaded again", model.name)

    def _fails(self, name: str) -> bool:
        """Whether a loaded model cannot run; it is unloaded then, because a load would find nothing to do."""
        try:
            self._server.probe(name)
        except ModelBroken:
            self._server.unload(name)
            return True
        return False

    def _unload_unused(self) -> None:
        for name in self._repository.unused(self._keep_s):
            self._server.unload(name)
            self._repository.remove(name)
            log.info("%s is unloaded: nobody uses it", name)

    def _try(self, what: str, do: Callable[[Unpack[Args]], object], *args: *Args) -> None:
        """A failure is told once, until the same thing works again."""
        try:
            do(*args)
        except WinnowError as wrong:
            if what not in self._failing:
                log.warning("Triton, %s: %s", what, wrong)
            self._failing.add(what)
        else:
            self._failing.discard(what)


def triton_host(settings: TritonSettings) -> TritonHost:
    """A host as the settings say."""
    running = Running(settings.triton_instances, on_gpu=settings.triton_gpu, tensorrt=settings.triton_tensorrt)
    return TritonHost(
        TritonServer(settings.triton_address, tls=settings.triton_tls()),
        ModelRepository(settings.triton_repository, running),
        timeout_s=settings.triton_timeout_s,
        keep_s=settings.triton_keep_s,
        shared=settings.triton_shared_memory,
    )
