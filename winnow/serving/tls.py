"""TLS from an identity: of gRPC servers, of channels to peers, and of the HTTP face. And who may call whom inside.

New connections get the newest certificate; those that are open stay as they are until they end.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from winnow.serving.certificates import Pems, load
from winnow.serving.identity import Identity, Inside
from winnow.serving.telemetry import GRPC_REQUESTS

ALL = frozenset({"*"})
FOLLOW = frozenset({"Catalogue", "Ready"})  # reads items; people's acts are the gateway's to ask for

ARROWS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "winnow.v1.FeatureService": {"gateway": ALL, "retrieval": FOLLOW, "ranking": FOLLOW, "explanation": FOLLOW},
    "winnow.v1.RetrievalService": {"gateway": ALL},
    "winnow.v1.RankingService": {"gateway": ALL},
    "winnow.v1.ExplanationService": {"gateway": ALL},
}
"""The diagram's arrows: which services may call which methods of which. Health and reflection answer every peer."""


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """Asked at every handshake for what changed. Peers must show a certificate where the identity has authorities."""
    used = identity.pems

    def changed() -> Any:
        nonlocal used
        if (now := identity.pems) is used:
            return None
        used = now
        return configuration(now)

    return grpc.dynamic_ssl_server_credentials(configuration(used), changed, identity.mutual)


def configuration(pems: Pems) -> Any:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.authorities or None)


def channel_credentials(pems: Pems) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pems.authorities, pems.key, pems.certificate)


class Arrows(grpc.aio.ServerInterceptor):
    """Refuses calls that the diagram has no arrow for, whatever authority signed the caller's certificate."""

    def __init__(self, own: Inside) -> None:
        self._allowed = {
            service: {own.peer(caller).encode(): methods for caller, methods in callers.items()}
            for service, callers in ARROWS.items()
        }

    async def intercept_service(self, continuation: Any, call: Any) -> Any:
        handler = await continuation(call)
        _, service, method = call.method.split("/")
        if handler is None or handler.unary_unary is None or service not in self._allowed:
            return handler
        callers = self._allowed[service]

        async def guarded(request: Any, context: Any) -> Any:
            names = context.auth_context().get("peer_dns", ())
            if not any(methods_allow(callers.get(name), method) for name in names):
                GRPC_REQUESTS.labels(method=call.method, code=grpc.StatusCode.PERMISSION_DENIED.name).inc()
                who = ", ".join(name.decode(errors="replace") for name in names)[:200] or "nobody"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{who} may not call {method}")
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def methods_allow(methods: frozenset[str] | None, method: str) -> bool:
    return methods is not None and (methods is ALL or method in methods)


def http_context(identity: Identity) -> ssl.SSLContext:
    """For an HTTP server: its new connections get the newest certificate."""
    context = fresh(identity.pems)
    identity.listen(lambda: renew(context, identity.pems))
    return context


def renew(context: ssl.SSLContext, pems: Pems) -> None:
    fresh(pems)  # what fails here must not leave a living context with half of it
    load(context, pems)


def fresh(pems: Pems) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load(context, pems)
    return context
