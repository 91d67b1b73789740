"""A collector of traces for tests: OTLP over gRPC, as our processes speak it, and over HTTP as JSON, as Triton does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from parts.program import HOST

GIVEN_UP_S = 40.0


@dataclass(frozen=True)
class Seen:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """Everything that arrived; `endpoint` for gRPC, `http` for JSON."""

    endpoint: str = ""
    http: str = ""
    spans: list[Seen] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Seen]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def wait(self, holds: Callable[[], Any], within_s: float = GIVEN_UP_S) -> None:
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, "\n".join(f"{one.service} {one.name}" for one in self.spans[-50:])
            time.sleep(0.05)

    def take(self, told: dict[str, Any]) -> None:
        """A request as JSON has it, with ids in hexadecimal."""
        self.raw.append(json.dumps(told))
        for resource in told.get("resourceSpans", []):
            service = values(resource.get("resource", {})).get("service.name", "")
            for scope in resource.get("scopeSpans", []):
                self.spans += [seen(service, span) for span in scope.get("spans", [])]


def values(holder: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values()), None) for one in holder.get("attributes", [])}


def seen(service: str, span: dict[str, Any]) -> Seen:
    kind = span.get("kind", 0)
    return Seen(
        service=service,
        name=span["name"],
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        kind=kind if isinstance(kind, int) else KINDS.index(kind),
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        attributes=values(span),
        failed=span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),
    )


KINDS = ["SPAN_KIND_" + name for name in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")]


class Service(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:  # JSON has bytes as base64, OTLP's JSON has ids in hexadecimal
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    one = MessageToDict(span) | dict(zip(("traceId", "spanId", "parentSpanId"), ids, strict=True))
                    about = {"resource": MessageToDict(resource.resource), "scopeSpans": [{"spans": [one]}]}
                    self._collector.take({"resourceSpans": [about]})
        return trace_service_pb2.ExportTraceServiceResponse()


def handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(json.loads(body))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(collector), server)
    collector.endpoint = f"http://{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    server.start()
    http = ThreadingHTTPServer((HOST, 0), handler(collector))
    collector.http = f"http://{HOST}:{http.server_port}/v1/traces"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        http.shutdown()
        http.server_close()
        server.stop(0)
