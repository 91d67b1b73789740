"""The OpenAPI document's word on who may do what: the table of access, in the document's own terms."""

from __future__ import annotations

from typing import Any

from services.gateway.access import ACCESS
from winnow.serving.guard import API_KEY

SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "a token of the configured issuer and audience, RS256 or ES256; its `scope` names what it may do",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": API_KEY,
        "description": "a key that `winnow keys create` made",
    },
}


def secured(document: dict[str, Any], *, required: bool) -> None:
    """Say of every operation which scope it needs; where authentication is off, that it also does without."""
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = ACCESS.get(f"{method.upper()} {path}", "admin")
            if need not in ("open", "probe"):
                ways: list[dict[str, list[str]]] = [{"bearer": [need]}, {"apiKey": [need]}]
                operation["security"] = ways if required else [*ways, {}]
