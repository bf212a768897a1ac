from __future__ import annotations

from typing import Any

import pytest

from kbuild_tasks.core.when import when


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2026-11-30T17:23:54+0100", "2026-11-30 16:23 UTC"),
        ("2026-11-30T17:23:54Z", "2026-11-30 17:23 UTC"),
        (1.0, "1970-01-01 00:00 UTC"),
        ("soon", ""),
        (1e300, ""),
        (0, ""),
        (None, ""),
        ({}, ""),
    ],
)
def test_one_form_for_every_time(moment: Any, told: str) -> None:
    assert when(moment) == told
