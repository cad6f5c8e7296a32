"""The site that `make docs` has built, in a browser."""

import functools
import os
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
PAGES = ("index", "start", "guide/crop", "explanation/trust", "validation", "reference/index", "faq", "tutorials/index")


THEIRS = ("toctree-toggle", '<a class="reference internal"', '<table class="table">')
"""Where the theme's side bar and tables, and the thumbnails of sphinx-gallery, do without names or focus."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *arguments: object) -> None:
        """Leave the log of requests out."""


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.skip("needs a browser and the site: make docs pages")
    return SITE


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on the loopback interface: a theme's scripts are not for plain files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page(name: str, scheme: str, address: str, opened, faults_of) -> None:
    seen = opened(f"{address}/{name}.html", scheme)
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith((address, "data:"))] == []
    assert [fault for fault in faults_of(seen.page) if not any(part in fault for part in THEIRS)] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(name: str, address: str, opened) -> None:
    page = opened(f"{address}/{name}.html", width=400).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


class Links(HTMLParser):
    """Anchors of a page, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if attributes.get("id"):
            self.anchors.add(str(attributes["id"]))
        if tag == "a" and attributes.get("href"):
            self.targets.append(str(attributes["href"]))


def test_no_link_is_dead(site: Path) -> None:
    """Between all pages, with their anchors; what is on other hosts is not asked for."""
    pages = {file: Links(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    files = {str(path) for path in site.rglob("*")}
    dead, number = [], 0
    for file, links in pages.items():
        for href in links.targets:
            target, anchor = urldefrag(href)
            if urlsplit(href).scheme or href.startswith("//"):
                continue
            number += 1
            path = Path(os.path.normpath(file.parent / unquote(target))) if target else file
            if str(path) not in files or (anchor and path in pages and unquote(anchor) not in pages[path].anchors):
                dead.append(f"{file.relative_to(site)}: {href}")
    assert number > 1000
    assert dead == []
