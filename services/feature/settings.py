"""Settings of the feature service, read once from the environment (`WINNOW_HOME`, …)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`feature_address` is where the service listens, `segment_bytes` the size at which a log file is full."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    feature_address: str = "127.0.0.1:50051"
    segment_bytes: int = Field(64 * 2**20, ge=2**16, le=2**30)
