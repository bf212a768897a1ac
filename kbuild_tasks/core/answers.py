"""What a node's helper may answer, by verb: the form of each member that the roll-out works with. Pure.

Decisions are made of these answers, so one of another form is refused where it comes in: a node that is broken, or
somebody else's, is told as that, and stops nothing but itself. A member that is missing or null is left to who needs
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NUMBER = 10**15  # as in kbuild_tasks/node, PATTERNS
LATEST = 2**40  # seconds since the epoch; what no date can tell is no time
Form = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUMBER


def _fence(value: Any) -> bool:
    return _count(value) and value < NUMBER - 1  # the next one must fit too


def _time(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LATEST


def _object(**members: Form) -> Form:
    def fits(value: Any) -> bool:
        return isinstance(value, Mapping) and not _wrong(members, value)

    return fits


def _list(form: Form) -> Form:
    return lambda value: isinstance(value, list) and all(form(item) for item in value)


def _denied(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("build"), str) and value.get("why", "") is not None


def _dumps(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, Mapping) and all(map(_text, value.values())))


def _staged(value: Any) -> bool:
    one = _object(size=_count, sha256=_text)
    return isinstance(value, Mapping) and all(map(one, value.values()))


_RECORD = _object(release=_text, build_id=_text, build=_text, entry=_text)
_LOADER = _object(
    **dict.fromkeys(("kind", "default", "armed", "selected", "boot"), _text), entries=_list(_object(id=_text))
)
FORMS: Mapping[str, Mapping[str, Form]] = {
    "observe": {
        **dict.fromkeys(("release", "build_id", "build", "version", "cmdline", "helper"), _text),
        **dict.fromkeys(("known_good", "previous", "trial"), _RECORD),
        "loader": _LOADER,
        "deny": _list(_denied),
        "builds": _texts,
        "fence": _fence,
        "lease": _object(who=_text, since=_time),
        "time": _time,
    },
    "stage-list": {"files": _staged},
    "install": {"said": _texts, "repaired": _texts},
    "bootfiles": {**dict.fromkeys(("missing", "changed", "modules_missing"), _texts), "entry": _text},
    "forget": {"freed": _count, "freed_boot": _count},
    "journal": {"lines": _texts, "pstore": _dumps, "release": _text},
}


def wrong(verb: str, answer: Mapping[str, Any]) -> str:
    """The first member that is not what the helper says, "" where all are."""
    return _wrong(FORMS.get(verb, {}), answer)


def _wrong(forms: Mapping[str, Form], value: Mapping[str, Any]) -> str:
    return next((key for key, form in forms.items() if value.get(key) is not None and not form(value[key])), "")
