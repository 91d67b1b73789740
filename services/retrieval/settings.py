"""Settings of the retrieval service, read once from the environment (`WINNOW_RETRIEVAL_THREADS`, …)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from services.retrieval.part import Part
from winnow.errors import InvalidArgument
from winnow.nearest import meant
from winnow.serving.address import Address, checked
from winnow.serving.settings import ServingSettings
from winnow.serving.triton_settings import TritonSettings

SOURCES = ("tower", "sequence", "item_to_item", "trending", "fresh", "text", "again")
MOST = 1e6  # of a share, a weight or a floor, so that sums of them stay numbers


class Settings(TritonSettings, ServingSettings):
    """`retrieval_address` is where the service listens. Shares, weights and floors are per source
    (`services.retrieval.merge.Blend`), each map in place of its default; text only competes when a query brings words, again
    only where seen items may come back."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    mlflow_uri: str = Field("", description="registry of bundles; empty: the home's own")
    bundle_every_s: float = Field(2.0, gt=0, description="how often the champion alias is looked up")
    feature_address: Address = "127.0.0.1:50051"
    retrieval_address: Address = "127.0.0.1:50052"
    retrieval_threads: int = Field(1, ge=1, le=256, description="searches at a time, each on one core")
    retrieval_max_waiting: int = Field(256, ge=1, description="calls at once before more are refused")
    retrieval_shards: str = Field("", description="host:port,… of parts; then this process asks them and has no model")
    retrieval_shard_budget_ms: float = Field(200.0, gt=0, description="then the answer lacks that part's items")
    retrieval_shard: str = Field("", description="the part that this process answers for: 0/4 … 3/4, or 0/4:category …")
    retrieval_gpu: bool = Field(False, description="vectors are searched on the first GPU")
    milvus_uri: str = Field("", description="http://host:19530 of a Milvus that searches vectors; empty: this process")
    milvus_token: str = Field("", repr=False, description="user:password or API key of that Milvus")
    retrieval_shares: Mapping[str, float] = {
        "tower": 0.5,
        "sequence": 0.2,
        "item_to_item": 0.2,
        "trending": 0.05,
        "fresh": 0.05,
        "text": 1.0,
        "again": 0.5,
    }
    retrieval_weights: Mapping[str, float] = {
        "tower": 1.0,
        "sequence": 0.05,
        "item_to_item": 0.05,
        "trending": 0.005,
        "text": 1.0,
        "again": 0.5,
    }
    retrieval_floors: Mapping[str, float] = {"sequence": 0.001, "item_to_item": 0.01, "again": 0.5}
    sequence_acts: int = Field(3, ge=1, le=50, description="newest acts whose successors are proposed")
    sequence_decay: float = Field(0.5, gt=0, le=1, description="what the next older act counts")
    item_to_item_acts: int = Field(20, ge=1, le=50, description="newest acts whose companions are proposed")
    item_to_item_decay: float = Field(0.9, gt=0, le=1, description="what the next older act counts")

    @field_validator("retrieval_shares", "retrieval_weights", "retrieval_floors")
    @classmethod
    def _by_source(cls, value: Mapping[str, float], about: ValidationInfo) -> Mapping[str, float]:
        for source, number in value.items():
            if source not in SOURCES:
                words = f"unknown source {source!r}{meant(source, SOURCES)}; known are {', '.join(SOURCES)}"
                raise PydanticCustomError("source", "{words}", {"words": words})
            least = -MOST if about.field_name == "retrieval_weights" else 0.0
            above = about.field_name == "retrieval_floors"  # it divides
            if not (least < number if above else least <= number) or number > MOST:
                words = f"{source}: {'above' if above else 'at least'} {least:g} and at most {MOST:g}"
                raise PydanticCustomError("source", "{words}", {"words": words})
        return value

    @field_validator("retrieval_shares")
    @classmethod
    def _somebody(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if not any(value.values()):
            raise PydanticCustomError("source", "give at least one source a share above 0")
        return value

    @field_validator("retrieval_shard")
    @classmethod
    def _a_part(cls, value: str) -> str:
        if value:
            try:
                Part.parse(value)
            except InvalidArgument as wrong:
                raise PydanticCustomError("part", "{why}", {"why": wrong.detail}) from wrong
        return value

    @field_validator("retrieval_shards")
    @classmethod
    def _addresses(cls, value: str) -> str:
        return ",".join(checked(address.strip()) for address in value.split(",")) if value else value

    @property
    def part(self) -> Part | None:
        return Part.parse(self.retrieval_shard) if self.retrieval_shard else None

    @property
    def shard_addresses(self) -> dict[str, str]:
        """`host:port` by the name that an answer calls a part that did not."""
        addresses = self.retrieval_shards.split(",") if self.retrieval_shards else []
        return {f"shard-{n}": address for n, address in enumerate(addresses)}

    @property
    def registry_uri(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.home.absolute()}/mlflow.db"
