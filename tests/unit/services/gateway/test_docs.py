"""The page at `/docs` works without the internet: whatever it loads comes from the gateway itself."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from services.gateway.build import face
from services.gateway.settings import Settings
from tests.gateways import Inner, gateway_over

LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}
KINDS = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}


class Page(HTMLParser):
    """What a page loads, and what stands in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline = ""
        self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.in_script = tag == "script"
        self.loads += [value or "" for name, value in attributes if (tag, name) in LOADS]

    def handle_data(self, data: str) -> None:
        self.inline += data.strip() if self.in_script else ""

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(face(Settings(), gateway_over(Inner())))
    async with httpx.AsyncClient(transport=transport, base_url="http://winnow") as client:
        yield client


async def test_all_that_the_page_loads_comes_from_its_own_host(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    page = Page(answer.text)
    assert len(page.loads) == 4
    for address in (urljoin(str(answer.url), load) for load in page.loads):
        assert urlsplit(address).netloc == "winnow"
        asset = await http.get(address)
        assert asset.status_code == 200, address
        assert asset.headers["content-type"].startswith(KINDS[address[address.rindex(".") :]])
        assert len(asset.content) > 100


async def test_neither_the_styles_nor_the_start_name_another_host(http: httpx.AsyncClient) -> None:
    styles = (await http.get("/docs/swagger-ui.css")).text
    assert {url.strip("\"'")[:5] for url in re.findall(r"url\((.*?)\)", styles)} <= {"data:"}
    assert "@import" not in styles
    start = (await http.get("/docs/start.js")).text
    assert "//" not in start
    assert "validatorUrl: null" in start
    assert (await http.get("/openapi.json")).status_code == 200


async def test_the_browser_is_forbidden_to_ask_anybody_else(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert {word for words in policy.values() for word in words.split()} <= {
        "'none'",
        "'self'",
        "'unsafe-inline'",
        "data:",
    }
    assert Page(answer.text).inline == "", "the policy lets no script in the page run"


@pytest.mark.parametrize("path", ["/docs/redoc.standalone.js", "/docs/..%2F__init__.py", "/docs/", "/redoc"])
async def test_nothing_else_of_the_package_is_served(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 404


def test_the_package_is_found_and_not_imported() -> None:
    code = "import sys, services.gateway.docs as d; assert (d.assets() / 'swagger-ui.css').is_file(); assert d.PACKAGE not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
