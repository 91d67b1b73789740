"""Who may do what: the one table of both faces. docs/security.md shows the same rows, and a test holds them equal.

What is not in the table is refused. A scope is exactly what it says: none implies another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from winnow.serving.principal import Scope

Need = Scope | Literal["open", "probe"]
"""A scope; or `open`: anybody, within their rate; or `probe`: anybody, as often as they like (an orchestrator's probes
bring no credential and must never be turned away)."""

ACCESS: Mapping[str, Need] = {
    "POST /v1/recommendations": "recommend",
    "GET /v1/recommendations": "recommend",
    "POST /v1/recommendations:batch": "recommend",
    "GET /v1/items/{item_id}/similar": "recommend",
    "POST /v1/similar": "recommend",
    "GET /v1/trending": "recommend",
    "GET /v1/items/{item_id}": "recommend",
    "POST /v1/events": "events:write",
    "PUT /v1/items/{item_id}": "catalog:write",
    "POST /v1/items:batch": "catalog:write",
    "GET /healthz": "probe",
    "GET /readyz": "probe",
    "GET /metrics": "admin",
    "GET /openapi.json": "open",
    "GET /docs": "open",
    "GET /docs/start.js": "open",
    "GET /docs/{name}": "open",
    "/winnow.v1.RecommenderService/Recommend": "recommend",
    "/winnow.v1.RecommenderService/Similar": "recommend",
    "/winnow.v1.RecommenderService/Trending": "recommend",
    "/winnow.v1.RecommenderService/Record": "events:write",
    "/winnow.v1.RecommenderService/PutItems": "catalog:write",
    "/winnow.v1.RecommenderService/Ready": "probe",
    "/grpc.health.v1.Health/Check": "probe",
    "/grpc.health.v1.Health/Watch": "admin",  # a call without an end holds a place: not for strangers
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "admin",  # the same
}
