"""What a terminal would obey is shown instead."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\tünï €\nnext", "plain\tünï €\nnext"),
        ("\x1b[31mred\r\x08\x7f", "\\x1b[31mred\\x0d\\x08\\x7f"),
        ("\x9b1m", "\\x9b1m"),
        ("a\udcff.patch", "a\\xff.patch"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
