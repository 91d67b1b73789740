"""Channels to peers: fail fast while one is down, find it again soon after it is back."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import grpc
import grpc.aio

from winnow.serving.channel import RenewedChannel
from winnow.serving.identity import Inside
from winnow.serving.status import MAX_MESSAGE_BYTES
from winnow.serving.tls import channel_credentials

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    # Of a name with several addresses (a headless Service) all are used in turn.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


def connect(address: str, own: Inside | None = None, peer: str = "") -> grpc.aio.Channel:
    """A channel to `host:port`. Nothing is sent yet; calls while the peer is away fail at once as Unavailable. With an
    identity of our own it is mTLS, and the other side must prove to be the service `peer`, wherever it is."""
    if own is None:
        channel: grpc.aio.Channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    else:
        options = (*OPTIONS, ("grpc.ssl_target_name_override", own.peer(peer)))
        channel = RenewedChannel(
            address, lambda pems: grpc.aio.secure_channel(address, channel_credentials(pems), options=options), own
        )
    ADDRESSES[channel] = address
    return channel


def connect_face(address: str, authorities: bytes) -> grpc.aio.Channel:
    """A channel to a gateway whose faces have TLS, as somebody from outside: it proves its host name, we nothing."""
    channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authorities), options=OPTIONS)
    ADDRESSES[channel] = address
    return channel


ADDRESSES: WeakKeyDictionary[grpc.aio.Channel, str] = WeakKeyDictionary()
"""Where each channel leads: gRPC does not tell, and who is not reachable must be said."""
