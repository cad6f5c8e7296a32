"""Pages of the commands in a browser: nothing is fetched, they fit, and axe-core has no complaint."""

from pathlib import Path

import pytest

from browser.conftest import COMMANDS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page(name: str, scheme: str, reports: Path, opened, faults_of) -> None:
    """By its contrast, order of headings, alternative texts, landmarks, what the keyboard reaches."""
    seen = opened((reports / f"{name}.html").as_uri(), scheme)
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert faults_of(seen.page) == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits(name: str, width: int, reports: Path, opened) -> None:
    """On a phone as on a large screen nothing is cut off at the right; tables scroll on their own."""
    page = opened((reports / f"{name}.html").as_uri(), width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('p, li, th, td, h1, h2, h3')]"
        ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.innerText)"
    )
    assert small == []


@pytest.mark.parametrize("name", COMMANDS)
def test_pictures_have_loaded(name: str, reports: Path, opened) -> None:
    page = opened((reports / f"{name}.html").as_uri()).page
    pictures = page.evaluate("[...document.images].map(i => [i.alt, i.complete && i.naturalWidth])")
    assert pictures
    assert all(words and width for words, width in pictures), pictures


@pytest.mark.parametrize("name", COMMANDS)
def test_links_within_a_page_lead_somewhere(name: str, reports: Path, opened) -> None:
    page = opened((reports / f"{name}.html").as_uri()).page
    broken = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href'))"
        ".filter(h => !document.getElementById(decodeURIComponent(h.slice(1))))"
    )
    assert broken == []


@pytest.mark.parametrize("name", ["align", "drift", "coalign"])
def test_blinking_pictures_pause(name: str, reports: Path, opened) -> None:
    """Under the pointer, and for those who have none by the keyboard's focus."""
    page = opened((reports / f"{name}.html").as_uri()).page
    state = "getComputedStyle(document.querySelector('.blink img + img')).animationPlayState"
    assert page.evaluate(state) == "running"
    page.locator(".blink").first.hover()
    assert page.evaluate(state) == "paused"
    page.mouse.move(0, 0)
    assert page.evaluate(state) == "running"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('blink')"):
            break
    assert page.evaluate(state) == "paused"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_prints(name: str, reports: Path, opened) -> None:
    """In black on white, also for those who read it in the dark, and no table is cut by its scroll bar."""
    page = opened((reports / f"{name}.html").as_uri(), "dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    hidden = page.evaluate(
        "[...document.querySelectorAll('.wide')].filter(e => getComputedStyle(e).overflowY != 'visible').length"
    )
    assert hidden == 0
    assert page.pdf()[:5] == b"%PDF-"
