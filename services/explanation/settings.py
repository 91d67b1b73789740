"""What the explanation service can be told, by environment variables `WINNOW_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.address import Address
from winnow.serving.settings import ServingSettings


class Settings(ServingSettings):
    """Read once, at start. `explanation_address` is where the service listens."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    mlflow_uri: str = Field("", description="registry of bundles; empty: the home's own")
    bundle_every_s: float = Field(2.0, gt=0, description="how often the champion alias is looked up")
    feature_address: Address = "127.0.0.1:50051"
    explanation_address: Address = "127.0.0.1:50054"
    positive_value: float | None = Field(
        None, description="lowest rating that means a person liked an item; absent: the data set's own"
    )

    @property
    def registry_uri(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.home.absolute()}/mlflow.db"
