"""Whether this process records traces, which, and where they go (`WINNOW_OTLP_ENDPOINT`, …)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from winnow.tracing import Tracer, record_with

ENDPOINT = re.compile(r"https?://[\w.:\[\]-]+/?")


def endpoint(text: str) -> str:
    """Where traces go. Names and passwords are no part of it: they would stand in the log."""
    if text and not ENDPOINT.fullmatch(text):
        raise ValueError("give http://host:port or https://host:port")
    return text.rstrip("/")


Endpoint = Annotated[str, AfterValidator(endpoint)]


class TraceSettings(BaseSettings):
    """Without `otlp_endpoint` nothing is recorded; what a caller sent is still passed on, and named in logs."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    otlp_endpoint: Endpoint = Field("", description="http(s)://host:port that takes traces; empty: none")
    trace_sample: float = Field(0.01, ge=0, le=1, description="share of requests traced where the caller does not say")
    trace_per_s: float = Field(100.0, gt=0, description="traces that begin here at most, callers' wishes included")


@contextmanager
def recorded(settings: TraceSettings, service: str) -> Iterator[None]:
    """Meanwhile traces are recorded as the settings say; at the end what waits is delivered, for a moment."""
    if not settings.otlp_endpoint:
        yield
        return
    from winnow.serving.traces import SpanRecorder, exporter_to  # half a second of imports, where it records

    recorder = SpanRecorder(exporter_to(settings.otlp_endpoint), service)
    record_with(Tracer(recorder, settings.trace_sample, settings.trace_per_s))
    try:
        yield
    finally:
        record_with(None)
        recorder.close()
