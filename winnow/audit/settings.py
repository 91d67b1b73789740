"""Where the audit log lies and what vouches for it (`WINNOW_AUDIT`, …)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AuditSettings(BaseSettings):
    """For every process that answers or administers."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    audit: bool = Field(True, description="on or off: whether answers and administrative acts are recorded")
    audit_folder: Path | None = Field(None, description="of the records; not given: audit in the home")
    audit_key_file: Path | None = Field(None, description="Ed25519 private key (PEM) that signs them; not given: none")
    audit_pseudonym_file: Path | None = Field(
        None, description="key of people's pseudonyms; not given: keys/audit-pseudonyms in the home, made at need"
    )
    audit_segment_bytes: int = Field(64 * 2**20, ge=2**16, description="size at which a file of records is full")
    audit_free_bytes: int = Field(256 * 2**20, ge=0, description="left free on the disk: events need room too")
    kafka_bootstrap: str = Field("", description="host:port,… of the brokers that get a copy; empty: files alone")
    kafka_replicas: int = Field(1, ge=1, le=9, description="of the topics that are made at the start")

    @property
    def records_folder(self) -> Path:
        return self.audit_folder or self.home / "audit"

    @property
    def pseudonym_file(self) -> Path:
        return self.audit_pseudonym_file or self.home / "keys" / "audit-pseudonyms"
