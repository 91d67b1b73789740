"""The chains of a topic, whose records came from files: the copy that whoever can write the files cannot reach.

A record may come twice, and a topic that forgets its oldest records begins somewhere; both are no faults.
"""

from __future__ import annotations

from winnow.audit.check import Check, Stand
from winnow.audit.record import NoRecord, read
from winnow.audit.signature import Verifier
from winnow.audit.verify import TOLD, AllStands, Progress, Verdict, nothing, told_by
from winnow.errors import FailedPrecondition
from winnow.kafka import end_offsets, messages
from winnow.topics import AUDIT

RESENT = 10_000  # records back, within which one that comes again is compared with the first


def verify_topic(
    bootstrap: str, *, verifier: Verifier | None = None, progress: Progress = nothing
) -> tuple[Verdict, AllStands]:
    """What was found, and where each chain stands in the topic, for the check of the files. FailedPrecondition: there is
    no such topic."""
    ends = end_offsets(bootstrap, AUDIT)
    if not ends:
        raise FailedPrecondition(f"the brokers have no topic {AUDIT.name}")
    checks: dict[str, Check] = {}
    whole: dict[int, bool] = {}  # by partition: nothing before what comes first was forgotten
    stands: AllStands = {}
    for number, message in enumerate(messages(bootstrap, AUDIT, ends), 1):
        whole.setdefault(message.partition, message.offset == 0)
        chain = message.key.decode(errors="replace")
        if chain not in checks:
            begins = 0 if whole[message.partition] else None
            checks[chain] = Check(chain, verifier=verifier, resent=RESENT, begins=begins)
        checks[chain].feed(message.value, f"{message.topic}/{message.partition}", message.offset)
        if TOLD in message.value:
            add(stands, message.value)
        if number % 1_000 == 0:
            progress(1_000)
    verdict = Verdict()
    for chain, check in sorted(checks.items()):
        check.seen(stands.get(chain, {}))
        verdict.reports.append(check.finish())
    newest = {
        one.chain: {one.last_seq: Stand(one.last_hash, f"the topic {AUDIT.name}")}
        for one in verdict.reports
        if one.records
    }
    return verdict, newest


def add(stands: AllStands, line: bytes) -> None:
    """Only the furthest of what is said of each chain: those before it were compared in the files."""
    try:
        record = read(line)
    except NoRecord:
        return
    for chain, seq, found in told_by(record):
        if seq >= max(stands.get(chain, {-1: None})):
            stands[chain] = {seq: Stand(found, f"record {record.seq} of {record.chain}")}
