"""Builds the gateway's guard from its settings."""

from __future__ import annotations

import logging

from services.gateway.api_keys import ApiKeys
from services.gateway.auth_settings import is_loopback
from services.gateway.gate import Callers, Gate
from services.gateway.key_set import FromFile, FromUrl, KeySet, parse
from services.gateway.rates import Buckets, InMemory, Rate
from services.gateway.settings import MS, Settings
from services.gateway.tokens import Expected, Tokens
from winnow.errors import FailedPrecondition, WinnowError

log = logging.getLogger(__name__)


def gate(settings: Settings) -> Gate | None:
    """The guard; None where nobody is to be recognised and nothing counted. FailedPrecondition names a setting that leads
    to nothing usable: better no gateway than one whose door does not close."""
    if settings.auth == "off":
        warn_if_reachable(settings)
    (per_s, burst), (address_per_s, address_burst) = settings.rates
    if settings.auth == "off" and not per_s and not address_per_s:
        return None
    keys = key_set(settings)
    return Gate(
        callers(settings, keys) if settings.auth == "on" else None,
        buckets(settings),
        Rate(per_s, burst) if per_s else None,
        Rate(address_per_s, address_burst) if address_per_s else None,
        keys,
    )


def callers(settings: Settings, keys: KeySet | None) -> Callers:
    expected = Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_leeway_s)
    hashed = settings.api_keys or settings.api_keys_file
    return Callers(
        Tokens(keys, expected) if keys else None,
        ApiKeys(settings.api_keys, settings.api_keys_file) if hashed else None,
    )


def key_set(settings: Settings) -> KeySet | None:
    """A file must be right from the start; an issuer may be away then, and is asked until it answers."""
    if settings.jwks_url:
        return KeySet(FromUrl(settings.jwks_url), settings.jwks_every_s)
    if not settings.jwks_file:
        return None
    source = FromFile(settings.jwks_file)
    made = KeySet(source, settings.jwks_every_s)
    try:
        made.use(parse(source.now()))
    except WinnowError as wrong:
        raise FailedPrecondition(f"WINNOW_JWKS_FILE: {wrong.detail}") from wrong
    return made


def buckets(settings: Settings) -> Buckets:
    """In Redis where there is one, with this process's own behind them."""
    own = InMemory()
    if not settings.redis_url:
        return own
    from services.gateway.rates_redis import InRedis, Shared  # a gateway without Redis needs no client of it

    return Shared(InRedis(settings.redis_url, settings.redis_timeout_ms * MS), own)


def warn_if_reachable(settings: Settings) -> None:
    addresses = (settings.rest_address, settings.gateway_address)
    open_to_others = [one for one in addresses if not is_loopback(one.rpartition(":")[0])]
    if open_to_others:
        log.warning(
            "WINNOW_AUTH is off and %s can be reached from other machines: whoever reaches it may do everything",
            " and ".join(open_to_others),
        )
