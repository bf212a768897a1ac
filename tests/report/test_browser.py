"""The page in a real browser, light and dark, wide and narrow: nothing is asked for, nothing is complained of, nothing
sticks out, and names that would like to be scripts are words."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.report.model import Material
from kbuild_tasks.report.page import page
from tests import browser
from tests.browser import Browser
from tests.report_material import hostile, material

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(browser.PROGRAM is None, reason="chromium is not installed (script/setup)"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def corner(picture: bytes) -> tuple[int, int, int]:
    """The first pixel of a PNG: no filter of its first row changes it (PNG specification, 9.2)."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and picture[24] == 8 and picture[25] in (2, 6)
    data, at = b"", 8
    while at < len(picture):
        length = int.from_bytes(picture[at : at + 4], "big")
        if picture[at + 4 : at + 8] == b"IDAT":
            data += picture[at + 8 : at + 8 + length]
        at += length + 12
    row = zlib.decompressobj().decompress(data, 4)
    return row[1], row[2], row[3]


TOLD = {"whole": material(), "hostile": hostile(), "nothing": Material(at=1796060000.0)}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", TOLD)
def test_the_page_in_a_browser(tab: Browser, tmp_path: Path, name: str, width: int, dark: bool) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(TOLD[name]))
    tab.asked.clear()
    tab.said.clear()
    tab.open(file, width, dark)
    assert "broken in" not in str(tab.value("document.title"))
    tab.value("document.querySelectorAll('details').forEach(element => element.open = true)")
    assert tab.value("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert tab.value("document.querySelectorAll('section').length") == 7
    assert tab.value("document.scripts.length + document.images.length") == 0
    assert tab.value("document.fonts.size") == 0
    if name == "whole":
        assert tab.value("document.querySelectorAll('.timeline rect').length") == 3
        assert tab.value("document.querySelector('.timeline rect').getBoundingClientRect().width") > 20
    red, green, blue = corner(tab.picture())
    assert (red + green + blue < 3 * 64) if dark else (red + green + blue > 3 * 192)
    assert tab.asked == [file.as_uri()]
    assert tab.said == []
