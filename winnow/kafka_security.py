"""How brokers are spoken to (`WINNOW_KAFKA_SECURITY`, …): in the clear, by TLS, with a password.

Every client of the process reads it when it is made, in Spark's workers as well: it belongs to the brokers' address and
to no single caller. A password never enters a message.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSecurity(BaseSettings):
    """Kafka's own words for each."""

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    kafka_security: Protocol = Field("PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    kafka_ca: str = Field("", description="file of the authorities that sign brokers; empty: the system's")
    kafka_cert: str = Field("", description="file of our certificate, where brokers ask for one,")
    kafka_key: str = Field("", description="and of its key")
    kafka_sasl: Mechanism = Field("SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    kafka_user: str = Field("", description="who we are, with SASL")
    kafka_password: SecretStr = Field(SecretStr(""), repr=False, description="and how we prove it")

    @model_validator(mode="after")
    def _kafka_whole(self) -> Self:
        if bool(self.kafka_cert) != bool(self.kafka_key):
            lacking, given = ("KEY", "CERT") if self.kafka_cert else ("CERT", "KEY")
            raise PydanticCustomError("kafka", f"WINNOW_KAFKA_{lacking} is not set, and WINNOW_KAFKA_{given} is")
        if self.kafka_security.startswith("SASL") and not (self.kafka_user and self.kafka_password.get_secret_value()):
            words = f"WINNOW_KAFKA_SECURITY={self.kafka_security} needs WINNOW_KAFKA_USER and WINNOW_KAFKA_PASSWORD"
            raise PydanticCustomError("kafka", words)
        if (self.kafka_ca or self.kafka_cert) and not self.kafka_security.endswith("SSL"):
            raise PydanticCustomError("kafka", f"WINNOW_KAFKA_SECURITY={self.kafka_security} uses no certificates")
        return self

    def options(self) -> dict[str, Any]:
        """As kafka-python has them; nothing in the clear."""
        if self.kafka_security == "PLAINTEXT":
            return {}
        found: dict[str, Any] = {"security_protocol": self.kafka_security}
        if self.kafka_security.endswith("SSL"):
            files = {"ssl_cafile": self.kafka_ca, "ssl_certfile": self.kafka_cert, "ssl_keyfile": self.kafka_key}
            found |= {name: file or None for name, file in files.items()}
        if self.kafka_security.startswith("SASL"):
            found |= {"sasl_mechanism": self.kafka_sasl, "sasl_plain_username": self.kafka_user}
            found |= {"sasl_plain_password": self.kafka_password.get_secret_value()}
        return found
