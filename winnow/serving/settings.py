"""How every process serves: TLS between the services, probes beside it, traces, and how it leaves (`WINNOW_TLS_FOLDER`, …)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from winnow.serving.address import checked
from winnow.serving.certificates import Files
from winnow.serving.identity import Identity, Inside
from winnow.serving.trace_settings import TraceSettings

MaybeAddress = Annotated[str, AfterValidator(lambda address: address and checked(address))]


class ServingSettings(TraceSettings):
    """Without `tls_folder`, or the three files one by one, services talk to each other in the clear."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    tls_folder: str = Field("", description="folder of tls.crt, tls.key, ca.crt: mTLS between services; empty: none")
    tls_cert: str = Field("", description="or the three files one by one: this service's certificate,")
    tls_key: str = Field("", description="its key,")
    tls_ca: str = Field("", description="and the authorities that sign peers' certificates")
    tls_domain: str = Field("winnow", min_length=1, description="certificates bear SERVICE.DOMAIN, as ranking.winnow")
    tls_every_s: float = Field(10.0, gt=0, le=3_600, description="how often certificates' files are looked at")
    health_address: MaybeAddress = Field("", description="host:port of gRPC health alone, without TLS, for probes")
    drain_s: float = Field(0.0, ge=0, le=300, description="goes on answering, not ready, between SIGTERM and the end")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        self.inside_files()
        return self

    def inside_files(self) -> Files | None:
        files = (self.tls_cert, self.tls_key, self.tls_ca)
        return chosen("WINNOW_TLS", self.tls_folder, files)

    def inside(self, service: str) -> Inside | None:
        """This service's identity among the others; None without TLS. CertificateRefused says what is wrong."""
        files = self.inside_files()
        return Inside(service, self.tls_domain, files, every_s=self.tls_every_s) if files else None


class FaceSettings(ServingSettings):
    """TLS of the faces that callers from outside see."""

    face_tls_folder: str = Field("", description="folder of tls.crt and tls.key: TLS on REST and gRPC; empty: none")
    face_tls_cert: str = Field("", description="or the two files one by one: the certificate,")
    face_tls_key: str = Field("", description="and its key")

    @model_validator(mode="after")
    def _face_whole(self) -> Self:
        self.face_files()
        return self

    def face_files(self) -> Files | None:
        return chosen("WINNOW_FACE_TLS", self.face_tls_folder, (self.face_tls_cert, self.face_tls_key))

    def face(self) -> Identity | None:
        """What proves to outside callers that they found the gateway; None without TLS."""
        files = self.face_files()
        return Identity("face", files, every_s=self.tls_every_s) if files else None


def chosen(prefix: str, folder: str, files: tuple[str, ...]) -> Files | None:
    """The files of one identity: a folder, or all one by one, or none. Anything between is a mistake with a name."""
    names = [f"{prefix}_{kind}" for kind in ("CERT", "KEY", "CA")[: len(files)]]
    given = [name for name, file in zip(names, files, strict=True) if file]
    if folder and given:
        raise PydanticCustomError("tls", f"{prefix}_FOLDER and {given[0]} are both set; one must be empty")
    if folder:
        return Files.within(f"{prefix}_FOLDER", Path(folder), mutual=len(files) > 2)
    if not given:
        return None
    if len(given) < len(files):
        lacking = next(name for name in names if name not in given)
        raise PydanticCustomError(
            "tls", f"{lacking} is not set, and {given[0]} is; set all of {', '.join(names)}, or none"
        )
    return Files(given[0], *map(Path, files))


def words_of(wrong: ValidationError) -> str:
    """The first thing that is wrong with settings, by the variable's name."""
    first = wrong.errors()[0]
    name = "_".join(map(str, first["loc"])).upper()
    return f"WINNOW_{name}: {first['msg']}" if name else str(first["msg"])
