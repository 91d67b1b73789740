"""scripts/environment.py: where pip was told to look, uv looks too."""

from scripts import environment

LISTING = """\
:env:.find-links='/folder/of wheels'
:env:.default-timeout='180'
global.find-links='/elsewhere'
global.index-url='https://index.example/simple'
global.extra-index-url='https://one.example/simple https://two.example/simple'
install.index-url='https://install.example/simple'
list.format='columns'
"""


def test_the_environment_wins_over_files_and_install_over_global() -> None:
    found = environment.pip_configuration(LISTING)
    assert found["find-links"] == "/folder/of wheels"
    assert found["index-url"] == "https://install.example/simple"
    assert "format" not in found


def test_the_order_of_the_listing_does_not_matter() -> None:
    assert environment.pip_configuration("\n".join(reversed(LISTING.splitlines()))) == environment.pip_configuration(
        LISTING
    )


def test_uv_looks_where_pip_looks() -> None:
    pip = {
        "find-links": "/a /b",
        "index-url": "https://i.example",
        "extra-index-url": "https://x.example\nhttps://y.example",
    }
    variables = environment.uv_variables(pip | {"cert": "/ca.crt", "no-index": "true"})
    assert variables["UV_FIND_LINKS"] == "/a,/b"
    assert variables["UV_DEFAULT_INDEX"] == "https://i.example"
    assert variables["UV_EXTRA_INDEX_URL"] == "https://x.example https://y.example"
    assert variables["SSL_CERT_FILE"] == "/ca.crt"
    assert variables["UV_NO_INDEX"] == "true"


def test_without_configuration_nothing_points_anywhere() -> None:
    assert (
        not {"UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE"}
        & environment.uv_variables({}).keys()
    )


def test_another_build_of_torch_takes_the_place_of_the_locked_one() -> None:
    lock = "torch==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\ntriton==3.0 \\\n    --hash=sha256:cc\n"
    version, hashes = environment.pinned(lock, "torch")
    assert (version, hashes) == ("2.0", ["sha256:aa", "sha256:bb"])
    assert environment.with_torch(lock, "2.0+cpu", hashes) == lock.replace("torch==2.0 ", "torch==2.0+cpu ")
