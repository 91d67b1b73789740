"""Where Triton is and how it is used, for the services that run models (`WINNOW_TRITON_ADDRESS`, …)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from winnow.serving.address import MaybeAddress


class TritonSettings(BaseSettings):
    """Without `triton_address`, models run in the process itself and the rest does not matter."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    triton_address: MaybeAddress = Field("", description="host:port of its gRPC face; empty: ONNX Runtime in process")
    triton_repository: Path = Field(Path("build/triton/models"), description="folder that Triton reads models from")
    triton_shared_memory: bool = Field(False, description="inputs by shared memory: only on one machine, as one user")
    triton_timeout_s: float = Field(1.0, gt=0, description="of one inference where the stage's budget is not shorter")
    triton_keep_s: float = Field(30.0, gt=0, description="until a model that nobody uses any more is unloaded")
    triton_instances: int = Field(1, ge=1, le=64, description="of each model; each runs one batch at a time")
    triton_ca: str = Field("", description="file of the authorities that sign it; empty: no TLS")
    triton_cert: str = Field("", description="file of our certificate, where Triton asks for one,")
    triton_key: str = Field("", description="and of its key")
    triton_gpu: bool = Field(False, description="instances run on the GPU")
    triton_tensorrt: bool = Field(
        False, description="there by TensorRT, whose engines are built at a model's first load"
    )

    @model_validator(mode="after")
    def _triton_whole(self) -> Self:
        lacking = "KEY" if self.triton_cert and not self.triton_key else ""
        lacking = "CERT" if self.triton_key and not self.triton_cert else lacking
        lacking = "CA" if self.triton_cert and not self.triton_ca else lacking
        if lacking:
            words = f"WINNOW_TRITON_{lacking} is not set; WINNOW_TRITON_CERT needs _KEY and _CA, and _KEY needs _CERT"
            raise PydanticCustomError("triton", words)
        return self

    def triton_tls(self) -> dict[str, Any]:
        """As Triton's client has it; nothing in the clear."""
        if not self.triton_ca:
            return {}
        files = {"root_certificates": self.triton_ca, "certificate_chain": self.triton_cert}
        return {
            "ssl": True,
            **{name: file or None for name, file in files.items()},
            "private_key": self.triton_key or None,
        }
