"""Who this process is to others: a certificate that is read again when its files change, and whoever must know of it.

Files are looked at every few seconds, whole: a Secret changes by swapping a link, an editor by renaming, and both change
the content. What cannot be served with is refused, once loudly, and the old certificate stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from winnow.serving.certificates import CertificateRefused, Facts, Files, Pems, judge, read
from winnow.serving.telemetry import CERTIFICATE_EXPIRY, CERTIFICATES_REFUSED, CERTIFICATES_RENEWED

log = logging.getLogger(__name__)

Heard = Callable[[], None]


class Identity:
    """The certificate in `files`, called `use` in metrics. CertificateRefused where they are no good at the start."""

    def __init__(self, use: str, files: Files, *, every_s: float, name: str = "") -> None:
        self.use = use
        self.name = name
        self._files = files
        self._every_s = every_s
        self._pems = read(files)
        self._listeners: list[Heard] = []
        self._doubtful: object = None  # content that was seen and is no good
        self._told = False
        self._show(judge(files, self._pems, name))

    @property
    def pems(self) -> Pems:
        """What to serve with now; the same object until it changes. May be read in any thread."""
        return self._pems

    @property
    def mutual(self) -> bool:
        """Whether peers must show a certificate too."""
        return self._files.authorities is not None

    def listen(self, heard: Heard) -> None:
        """Call `heard`, in the event loop, after every change."""
        self._listeners.append(heard)

    def forget(self, heard: Heard) -> None:
        self._listeners.remove(heard)

    async def watch(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            self.look()

    def look(self) -> bool:
        """Whether there is another certificate since the last look."""
        try:
            found = read(self._files)
        except CertificateRefused as wrong:
            self._doubt(wrong.detail, wrong)
            return False
        if found == self._pems:
            self._doubtful = None
            return False
        try:
            facts = judge(self._files, found, self.name)
        except CertificateRefused as wrong:
            self._doubt(found, wrong)
            return False
        self._pems, self._doubtful = found, None
        CERTIFICATES_RENEWED.labels(certificate=self.use).inc()
        self._show(facts)
        log.info("another certificate %s, until %s", self.use, facts.until.isoformat(timespec="seconds"))
        for heard in list(self._listeners):
            heard()
        return True

    def _doubt(self, content: object, wrong: CertificateRefused) -> None:
        """Two files are never written at once: only what is no good twice is told, and only once."""
        if content != self._doubtful:
            self._doubtful, self._told = content, False
        elif not self._told:
            self._told = True
            CERTIFICATES_REFUSED.labels(certificate=self.use).inc()
            log.error("certificate %s refused, the old one stays: %s", self.use, wrong.detail)

    def _show(self, facts: Facts) -> None:
        CERTIFICATE_EXPIRY.labels(certificate=self.use).set(facts.until.timestamp())
        if facts.authority_until is not None:
            CERTIFICATE_EXPIRY.labels(certificate="authority").set(facts.authority_until.timestamp())


class Inside(Identity):
    """A service among the platform's own: its certificate bears `service.domain`, and so do its peers' theirs."""

    def __init__(self, service: str, domain: str, files: Files, *, every_s: float) -> None:
        super().__init__("inside", files, every_s=every_s, name=f"{service}.{domain}")
        self.domain = domain

    def peer(self, service: str) -> str:
        """The name that a peer must prove."""
        return f"{service}.{self.domain}"
