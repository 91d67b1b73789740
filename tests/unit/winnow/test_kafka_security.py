"""How brokers are spoken to: Kafka's own words, nothing half, and no password in sight."""

import pytest
from pydantic import ValidationError

from services.gateway.settings import Settings
from winnow.kafka import connection
from winnow.kafka_security import KafkaSecurity
from winnow.serving.settings import words_of
from winnow.serving.triton_settings import TritonSettings

SECRET = "correct horse battery staple"


def test_without_settings_brokers_are_spoken_to_in_the_clear() -> None:
    assert KafkaSecurity().options() == {}
    assert not {name for name in connection("b:1", "n") if name.startswith(("ssl", "sasl", "security"))}


def test_every_client_takes_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECURITY": "SASL_SSL", "CA": "/ca", "USER": "winnow", "PASSWORD": SECRET}.items():
        monkeypatch.setenv(f"WINNOW_KAFKA_{name}", value)
    told = connection("b:1", "n")
    assert told["security_protocol"] == "SASL_SSL"
    assert (told["ssl_cafile"], told["ssl_certfile"]) == ("/ca", None)
    assert (told["sasl_mechanism"], told["sasl_plain_username"]) == ("SCRAM-SHA-512", "winnow")
    assert told["sasl_plain_password"] == SECRET
    assert SECRET not in repr(Settings()) + str(Settings()) + repr(KafkaSecurity())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kafka_security": "SASL_SSL", "kafka_user": "u"}, "needs WINNOW_KAFKA_USER and WINNOW_KAFKA_PASSWORD"),
        ({"kafka_security": "SSL", "kafka_cert": "c"}, "WINNOW_KAFKA_KEY is not set, and WINNOW_KAFKA_CERT is"),
        ({"kafka_ca": "c"}, "WINNOW_KAFKA_SECURITY=PLAINTEXT uses no certificates"),
        ({"kafka_security": "TLS"}, "WINNOW_KAFKA_SECURITY: Input should be"),
    ],
)
def test_half_a_configuration_names_the_variable_and_no_secret(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        KafkaSecurity(**given, kafka_password="" if "kafka_user" in given else SECRET)  # type: ignore[arg-type]
    assert words in words_of(wrong.value)
    assert SECRET not in words_of(wrong.value)


def test_triton_is_spoken_to_by_tls_once_an_authority_is_named() -> None:
    assert TritonSettings().triton_tls() == {}
    told = TritonSettings(triton_ca="/ca").triton_tls()
    assert told == {"ssl": True, "root_certificates": "/ca", "certificate_chain": None, "private_key": None}
    for given in ({"triton_cert": "c"}, {"triton_key": "k"}, {"triton_cert": "c", "triton_key": "k"}):
        with pytest.raises(ValidationError, match=r"WINNOW_TRITON_\w+ is not set"):
            TritonSettings(**given)  # type: ignore[arg-type]
