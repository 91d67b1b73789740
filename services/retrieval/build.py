"""Builds the retrieval service; the only place that names its sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from functools import partial

from services.retrieval.bundle import Indexed, load
from services.retrieval.indexes.stored import read_index
from services.retrieval.merge import Blend, blends_of
from services.retrieval.model import Model
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings
from services.retrieval.sharded import Blends, ShardedRetrieval
from services.retrieval.sources import Source
from services.retrieval.sources.again import Again
from services.retrieval.sources.fresh import Fresh
from services.retrieval.sources.item_to_item import ItemToItem
from services.retrieval.sources.sequence import Sequence as Following
from services.retrieval.sources.text import Text
from services.retrieval.sources.tower import Tower
from services.retrieval.sources.trending import Trending
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.inference import InProcess, ModelHost
from winnow.ports import Retrieval
from winnow.registry import MlflowRegistry
from winnow.serving.bundles import follow_bundle
from winnow.serving.model_host import triton_host
from winnow.worker import BriefWorker, Worker


def build(settings: Settings, catalogue: Catalogue, only: Collection[str] = ()) -> RetrievalService:
    """The service over a catalogue that the caller keeps current, giving every change to `changed`. It answers once a
    bundle is used: from `follow`, or from `load_bundle`. `only` these sources (none named: all), to see what each adds.
    """
    fresh, text = Fresh(catalogue), Text(catalogue)
    sources: tuple[Source, ...] = (
        Tower(),
        Following(settings.sequence_acts, settings.sequence_decay),
        ItemToItem(settings.item_to_item_acts, settings.item_to_item_decay),
        Trending(),
        fresh,
        text,
        Again(),
    )
    sources = tuple(source for source in sources if not only or source.name in only)
    blends = blends_by(settings)([source.name for source in sources])
    absorb = (fresh.absorb, text.absorb)
    return RetrievalService(catalogue, sources, absorb, blends, worker_of(settings), settings.part)


def worker_of(settings: Settings) -> Worker:
    """What waits for another machine keeps off the loop (docs/adr/0025)."""
    waits = settings.triton_address or settings.milvus_uri
    kind = Worker if waits else BriefWorker
    return kind("retrieval", threads=settings.retrieval_threads, max_waiting=settings.retrieval_max_waiting)


def build_sharded(settings: Settings, shards: Mapping[str, Retrieval]) -> ShardedRetrieval:
    """The service over parts by name, near or far."""
    return ShardedRetrieval(shards, blends_by(settings), settings.retrieval_shard_budget_ms / 1000)


def blends_by(settings: Settings) -> Blends:
    """How sources come together, by their names."""

    def blends(names: Sequence[str]) -> list[Blend]:
        return blends_of(names, settings.retrieval_shares, settings.retrieval_weights, settings.retrieval_floors)

    return blends


def host_of(settings: Settings) -> ModelHost:
    """Where the models run: in this process, or on the Triton that the settings name."""
    return triton_host(settings) if settings.triton_address else InProcess()


def indexed_by(settings: Settings) -> Indexed:
    """Where vectors are searched: in this process, on its GPU, or in the Milvus that the settings name."""
    if not settings.milvus_uri:
        return partial(read_index, gpu=settings.retrieval_gpu)
    from services.retrieval.indexes.milvus import in_milvus  # its client is an extra of its own

    return in_milvus(settings.milvus_uri, settings.milvus_token)


def load_bundle(
    service: RetrievalService, bundle: Bundle, host: ModelHost | None = None, indexed: Indexed = read_index
) -> Model:
    """A bundle ready to be used by this service, in this process where no host is named; BundleRefused with the
    reason. Takes seconds: run it in a thread."""
    return service.load(load(bundle, host or InProcess(), indexed, service.part))


async def follow(settings: Settings, service: RetrievalService) -> None:
    """Keep the service on the registry's champion, for ever."""
    registry = MlflowRegistry(settings.registry_uri, settings.home / "state" / "bundles")
    with closing(host_of(settings)) as host:
        beside = partial(load_bundle, service, host=host, indexed=indexed_by(settings))
        await follow_bundle(registry, "retrieval", beside, service.use, settings.bundle_every_s)
