"""Where Triton is and how it is used, for the services that run models (`WINNOW_TRITON_ADDRESS`, …)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TritonSettings(BaseSettings):
    """Without `triton_address`, models run in the process itself and the rest does not matter."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    triton_address: str = Field("", description="host:port of its gRPC face; empty: ONNX Runtime in process")
    triton_repository: Path = Field(Path("build/triton/models"), description="folder that Triton reads models from")
    triton_shared_memory: bool = Field(False, description="inputs by shared memory: only on one machine, as one user")
    triton_timeout_s: float = Field(1.0, gt=0, description="of one inference where the stage's budget is not shorter")
    triton_keep_s: float = Field(30.0, gt=0, description="until a model that nobody uses any more is unloaded")
    triton_instances: int = Field(1, ge=1, le=64, description="of each model; each runs one batch at a time")
    triton_gpu: bool = Field(False, description="instances run on the GPU")
    triton_tensorrt: bool = Field(
        False, description="there by TensorRT, whose engines are built at a model's first load"
    )
