"""The Features port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio

from winnow.ports import Features
from winnow.requests import Readiness
from winnow.serving.calls import Caller
from winnow.serving.serve import Registration
from winnow.types import CataloguePage, Event, Item, Person, Receipt, UserState
from winnow.v1 import feature_pb2 as pb
from winnow.v1 import feature_pb2_grpc as rpc
from winnow.v1 import types_pb2
from winnow.wire import types as wire


class FeatureServicer(rpc.FeatureServiceServicer):
    def __init__(self, port: Features) -> None:
        self._port = port

    async def Users(self, request: pb.UsersRequest, context: Any) -> pb.UsersResponse:
        users = await self._port.users([wire.person_of(person) for person in request.people])
        return pb.UsersResponse(users=[wire.user_to(user) for user in users])

    async def Record(self, request: pb.RecordRequest, context: Any) -> types_pb2.Receipt:
        return wire.receipt_to(await self._port.record([wire.event_of(event) for event in request.events]))

    async def PutItems(self, request: pb.PutItemsRequest, context: Any) -> types_pb2.Receipt:
        return wire.receipt_to(await self._port.put_items([wire.item_of(item) for item in request.items]))

    async def Catalogue(self, request: pb.CatalogueRequest, context: Any) -> pb.CatalogueResponse:
        page = await self._port.catalogue(request.after, request.limit, request.images)
        return pb.CatalogueResponse(
            items=[wire.item_to(item) for item in page.items], watermark=page.watermark, more=page.more
        )

    async def Ready(self, request: types_pb2.ReadyRequest, context: Any) -> types_pb2.Readiness:
        return wire.readiness_to(await self._port.ready())


def register(port: Features) -> Registration:
    return Registration(
        "winnow.v1.FeatureService",
        lambda server: rpc.add_FeatureServiceServicer_to_server(FeatureServicer(port), server),
        port.ready,
    )


class FeatureClient:
    """A Features port that lives in another process. `timeout_s` bounds each call; a nearer deadline wins."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub: Any = rpc.FeatureServiceStub(channel)
        self._call = Caller("feature", channel, timeout_s)

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        request = pb.UsersRequest(people=[wire.person_to(person) for person in people])
        return [wire.user_as_sent(user) for user in (await self._call(self._stub.Users, request)).users]

    async def record(self, events: Sequence[Event]) -> Receipt:
        request = pb.RecordRequest(events=[wire.event_to(event) for event in events])
        return wire.receipt_of(await self._call(self._stub.Record, request))

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        request = pb.PutItemsRequest(items=[wire.item_to(item) for item in items])
        return wire.receipt_of(await self._call(self._stub.PutItems, request))

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        request = pb.CatalogueRequest(after=after, limit=limit, images=images)
        page = await self._call(self._stub.Catalogue, request)
        return CataloguePage(tuple(wire.item_of(item) for item in page.items), page.watermark, page.more)

    async def ready(self) -> Readiness:
        return wire.readiness_of(await self._call(self._stub.Ready, types_pb2.ReadyRequest()))
