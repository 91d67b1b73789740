"""What a process writes into the audit log: answers, of which none waits for it, and acts, which wait until they are on disk.

An answer that cannot be recorded is counted, and how many there were becomes a record as soon as one can be written. An
act that cannot be recorded does not take place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from winnow.audit.acts import About, Act, Answers, entry_of, slug_of
from winnow.audit.asked import Asked
from winnow.audit.chain import Chain
from winnow.audit.pseudonyms import Pseudonyms, pseudonyms
from winnow.audit.record import BEGUN, DONE, FAILED, GAP, Entry
from winnow.audit.settings import AuditSettings
from winnow.audit.signature import Signer
from winnow.errors import DiskFull, FailedPrecondition, Unavailable, WinnowError
from winnow.serving.telemetry import AUDITED, UNAUDITED

if TYPE_CHECKING:
    from winnow.audit.feed import Feed

SYNC_S = 1.0  # a power cut costs at most this much
CHECKPOINT_S = 600.0
CLOSE_S = 3.0  # for what the broker has not got when the process ends
RETRY_S = 1.0  # after the folder could not be opened

logger = logging.getLogger(__name__)


class Ledger:
    """One process's chain, shared by the thread of its answers and those of its acts. Nothing is recorded, and no act
    refused, before the first `tend`: a gateway that only answers a command has no audit log."""

    def __init__(
        self, open_chain: Callable[[], Chain], keys: Callable[[], Pseudonyms], feed: Feed | None = None
    ) -> None:
        self._open_chain = open_chain
        self._keys = keys
        self._feed = feed
        self._lock = threading.Lock()  # of the chain
        self._chain: Chain | None = None
        self._pseudonyms: Pseudonyms | None = None
        self._counting = threading.Lock()
        self._missed: Counter[str] = Counter()
        self._waiting: deque[Entry] = deque()  # ends of acts
        self._began = False
        self._lost: WinnowError | None = None  # the trouble that was told
        self._open_at = self._sync_at = 0.0
        self._checkpoint_at = time.monotonic() + CHECKPOINT_S

    def missed(self, reason: str, answers: int = 1) -> None:
        with self._counting:
            self._missed[reason] += answers
        UNAUDITED.labels(reason=reason).inc(answers)

    def answers(self, number: int, made: Answers) -> None:
        try:
            with self._lock:
                chain = self._ready()
                if self._pseudonyms is None:
                    self._pseudonyms = self._keys()
                self._append(chain, made(self._pseudonyms))
            self._goes_on()
        except WinnowError as lost:
            self._trouble(lost)
            self.missed("disk_full" if isinstance(lost, DiskFull) else "disk_failed", number)

    def begin(self, kind: str, asked: Asked, about: About, act_id: str = "") -> Act:
        act = Act(kind, act_id or uuid4().hex, asked)
        if self._began:
            with self._lock:
                try:
                    chain = self._ready()
                    self._append(chain, [entry_of(act, BEGUN, about)])
                    chain.sync()
                except WinnowError as lost:
                    kept = DiskFull if isinstance(lost, DiskFull) else Unavailable
                    raise kept(f"nothing was done, because it cannot be audited: {lost.detail}") from lost
        return act

    def end(self, act: Act, failed: BaseException | None = None) -> None:
        if self._began:
            told = {"error": slug_of(failed)} if failed else act.told
            self._waiting.append(entry_of(act, FAILED if failed else DONE, told))

    def tend(self) -> bool:
        self._began = True
        return self._settle() and self._fed()

    def close(self) -> None:
        if not self._began:
            return
        self._settle()
        self._sync_at = 0.0
        try:
            with self._lock:
                if self._chain is not None:
                    self._chain.close()
        except WinnowError as lost:
            self._trouble(lost)
        until = time.monotonic() + CLOSE_S
        while self._fed() and time.monotonic() < until:
            pass
        self._chain, self._began = None, False
        if self._feed is not None:
            self._feed.close()

    @contextmanager
    def act(self, kind: str, asked: Asked, about: About) -> Iterator[Act]:
        """An act in this thread."""
        self._began = True
        act = self.begin(kind, asked, about)
        try:
            yield act
        except BaseException as failed:
            self.end(act, failed)
            raise
        self.end(act)

    def _settle(self) -> bool:
        """Write what waits and what is due; whether there is a chain that takes it."""
        try:
            with self._lock:
                chain = self._ready()
                self._append(chain, [])
                self._due(chain)
        except WinnowError as lost:
            self._trouble(lost)
            return False
        if not isinstance(self._lost, FailedPrecondition):  # a key that only answers need
            self._goes_on()
        return True

    def _goes_on(self) -> None:
        if self._lost is not None:
            logger.info("the audit log is written again")
        self._lost = None

    def _fed(self) -> bool:
        """Whether more can be sent at once. Not under the lock: nobody waits for a broker."""
        if self._feed is None or self._chain is None:
            return False
        return self._feed.step(self._chain.folder, self._chain.name, self._chain.synced)

    def _ready(self) -> Chain:
        """The chain, opened when it is first needed: a folder that cannot be written must not keep a gateway from
        answering."""
        if self._chain is None:
            if self._lost is not None and time.monotonic() < self._open_at:
                raise type(self._lost)(self._lost.detail)
            self._open_at = time.monotonic() + RETRY_S
            self._chain = self._open_chain()
        return self._chain

    def _append(self, chain: Chain, entries: Sequence[Entry]) -> None:
        """These, and before them what waits: the number of those that were missed, and ends of acts."""
        with self._counting:
            missed, ended = Counter(self._missed), len(self._waiting)
        due = [Entry(GAP, {"unaudited": missed.total(), "reasons": dict(missed)})] if missed else []
        due += [self._waiting[n] for n in range(ended)]
        if not (due or entries):
            return
        chain.append([*due, *entries])
        with self._counting:
            self._missed -= missed
        for _ in range(ended):
            self._waiting.popleft()
        for one in (*due, *entries):
            AUDITED.labels(kind=one.kind).inc()

    def _due(self, chain: Chain) -> None:
        now = time.monotonic()
        if now >= self._checkpoint_at:
            self._checkpoint_at = now + CHECKPOINT_S
            chain.checkpoint()
        if now >= self._sync_at:
            self._sync_at = now + SYNC_S
            chain.sync()

    def _trouble(self, lost: WinnowError) -> None:
        """Said once, until it goes on."""
        if self._lost is None or self._lost.detail != lost.detail:
            logger.error("the audit log cannot be written: %s", lost.detail)
        self._lost = lost


def ledger(settings: AuditSettings, writer: str) -> Ledger:
    """The ledger of a process of this kind, as it is set."""

    def chain() -> Chain:
        signer = Signer(settings.audit_key_file) if settings.audit_key_file else None
        return Chain(
            settings.records_folder,
            writer,
            segment_bytes=settings.audit_segment_bytes,
            free_bytes=settings.audit_free_bytes,
            signer=signer,
        )

    return Ledger(chain, lambda: pseudonyms(settings.pseudonym_file), feed_of(settings))


def feed_of(settings: AuditSettings) -> Feed | None:
    if not settings.kafka_bootstrap:
        return None
    from winnow.audit.feed import Feed  # who has no broker needs no client of one

    return Feed(settings.kafka_bootstrap, replicas=settings.kafka_replicas)
