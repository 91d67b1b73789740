"""Settings of the ranking service, read once from the environment (`WINNOW_RANKING_THREADS`, …)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.address import Address, RedisUrl
from winnow.serving.settings import ServingSettings
from winnow.serving.triton_settings import TritonSettings


class Settings(TritonSettings, ServingSettings):
    """`ranking_address` is where the service listens. `surface_objectives`, and elsewhere `default_objectives`, weigh the
    heads (click, convert, value) where a request does not."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    mlflow_uri: str = Field("", description="registry of bundles; empty: the home's own")
    bundle_every_s: float = Field(2.0, gt=0, description="how often the champion alias is looked up")
    feature_address: Address = "127.0.0.1:50051"
    ranking_address: Address = "127.0.0.1:50053"
    ranking_threads: int = Field(1, ge=1, le=256, description="rankings at a time, each on one core")
    ranking_max_waiting: int = Field(256, ge=1, description="calls at once before more are refused")
    redis_url: RedisUrl = Field(
        "", repr=False, description="redis://host:port/0, which tells of changed items; empty: none"
    )
    default_objectives: Mapping[str, float] = {"click": 1.0}
    surface_objectives: Mapping[str, Mapping[str, float]] = Field(
        {}, description="the same by the surface of a request's context"
    )

    @property
    def registry_uri(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.home.absolute()}/mlflow.db"
