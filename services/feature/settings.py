"""Settings of the feature service, read once from the environment (`WINNOW_HOME`, …)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.kafka_security import KafkaSecurity
from winnow.serving.address import Address, RedisUrl
from winnow.serving.settings import ServingSettings


class Settings(ServingSettings, KafkaSecurity):
    """`feature_address` is where the service listens, `segment_bytes` the size at which a log file is full."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    feature_address: Address = "127.0.0.1:50051"
    segment_bytes: int = Field(64 * 2**20, ge=2**16, le=2**30)
    redis_url: RedisUrl = Field("", repr=False, description="redis://host:port/0 for people's hot state; empty: none")
    redis_timeout_ms: float = Field(50.0, gt=0, le=5_000, description="how long an event waits for Redis at most")
    kafka_bootstrap: str = Field("", description="host:port,… of the brokers; empty: the home alone")
    kafka_replicas: int = Field(1, ge=1, le=9, description="of the topics that are made at the start")
    forward_wait_ms: float = Field(
        250.0, ge=0, description="how long an event waits for the broker; then disk is enough"
    )
    forward_imports: bool = Field(False, description="whether events that came in bulk are sent too")
