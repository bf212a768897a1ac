"""HTML by functions: what is not Html already is text, and is escaped. Names of files, nodes, patches and options come
from elsewhere, and may hold anything."""

from __future__ import annotations

import html
from typing import Any

from kbuild_tasks.core.visible import visible


class Html(str):
    """Text that is markup of ours."""

    __slots__ = ()


VOID = ("br", "meta", "rect", "path", "line")


def text(value: Any) -> Html:
    """Escaped, control characters and marks that turn the direction of text made visible."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value)), quote=True))


def join(*parts: Any) -> Html:
    """Parts one after the other; None and "" are nothing, lists and tuples are more parts."""
    found = []
    for part in parts:
        if isinstance(part, list | tuple):
            found.append(join(*part))
        elif part is not None:
            found.append(text(part))
    return Html("".join(found))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. class_ is class, view_box stays as SVG writes it (viewBox); None leaves an attribute out."""
    told = "".join(
        f' {_attribute(key)}="{text(value)}"' for key, value in attributes.items() if value is not None and value != ""
    )
    inner = join(*children)
    if name in VOID and not inner:
        return Html(f"<{name}{told}>" if name in ("br", "meta") else f"<{name}{told}/>")
    return Html(f"<{name}{told}>{inner}</{name}>")


def _attribute(key: str) -> str:
    known = {"view_box": "viewBox", "preserve": "preserveAspectRatio"}
    return known.get(key, key.rstrip("_").replace("_", "-"))


def chip(state: str, kind: str = "") -> Html:
    """A state as a word in a frame; its colour says nothing that the word does not."""
    return tag("span", state, class_=f"chip {kind}".strip())


def code(value: Any) -> Html:
    return tag("code", value)


def section(ident: str, title: str, *children: Any, note: Any = None) -> Html:
    head = tag("h2", title, tag("small", note) if note else None)
    return tag("section", head, *children, id=ident)


def table(head: list[str], rows: list[list[Any]], kind: str = "") -> Html:
    """`head` names the columns; on a narrow screen each cell says its own (class "stack"). "#": numbers."""
    numeric = [name.startswith("#") for name in head]
    names = [name.lstrip("#") for name in head]
    cells = [tag("th", name, scope="col", class_="n" if n else None) for name, n in zip(names, numeric, strict=True)]
    lines = [
        tag(
            "tr",
            [
                tag("td", cell, class_="n" if n else None, data_of=name or None)
                for cell, n, name in zip(row, numeric, names, strict=True)
            ],
        )
        for row in rows
    ]
    whole = tag("table", tag("thead", tag("tr", cells)), tag("tbody", lines), class_=kind or None)
    return tag("div", whole, class_="scroll")


def more(summary: Any, *children: Any, open_: bool = False) -> Html:
    """What is shown when it is asked for; works without a script."""
    return tag("details", tag("summary", summary), *children, **({"open": "open"} if open_ else {}))


def facts(*pairs: tuple[str, Any]) -> Html:
    """Names and values; those without a value are left out."""
    return tag(
        "dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value not in (None, "")]
    )


def missing(what: str) -> Html:
    return tag("p", what, class_="none")
