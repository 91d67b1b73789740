"""What the explanation service can be told, by environment variables `WINNOW_…`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, at start. `explanation_address` is where the service listens."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    feature_address: str = "127.0.0.1:50051"
    explanation_address: str = "127.0.0.1:50054"
    positive_value: float = Field(default=4.0, description="lowest rating that means a person liked an item")
