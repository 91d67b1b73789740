"""What the explanation service can be told, by environment variables `WINNOW_…`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, at start."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    positive_value: float = Field(default=4.0, description="lowest rating that means a person liked an item")
