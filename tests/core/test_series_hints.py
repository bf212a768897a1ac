"""What to do about a file that no patch may name."""

from __future__ import annotations

import pytest

from kbuild_tasks.core.patchfile import PatchError
from kbuild_tasks.core.patchparse import parse_patch


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("/etc/passwd", "make it again in the top directory of the source"),
        ("a//../x", "take this file out of the patch"),
        ("a/.git/config", "take this file out of the patch"),
        ('"a/x\\ny"', "give the file another name"),
    ],
)
def test_a_name_that_is_refused_has_a_hint(name: str, hint: str) -> None:
    with pytest.raises(PatchError) as caught:
        parse_patch("p", f"--- {name}\n+++ {name}\n@@ -1 +1 @@\n-1\n+2\n".encode())
    assert (caught.value.hint or "").startswith(hint), caught.value


def test_an_odd_mode_has_a_hint() -> None:
    with pytest.raises(PatchError, match="file mode 160000") as caught:
        parse_patch("p", b"diff --git a/x b/x\nnew file mode 160000\n")
    assert (caught.value.hint or "").startswith("take it out of the patch")
