"""Text for a terminal: what a patch, a file name or a program's output holds must not steer the terminal."""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL, C1; surrogates, by which Python keeps undecodable bytes of file names; marks that
# turn the direction of what follows (Unicode 15, "Bidi_Control").
_UNSEEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"


def visible(text: str) -> str:
    """`text` with control characters as escapes: ESC is \\x1b, the undecodable byte 0xff is \\xff."""
    return re.sub(_UNSEEN, _escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
