"""Questions to another coordinator, each over the one ssh that everything else uses; what it answers is only read here.

There they run as the owner of the other project, not as root: what that user may not read is not read for us, and
git meets no configuration of root's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from kbuild_tasks.core.adoption import inside
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.node_stream import Stream, Torn, receive
from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.effects.unpack import Member, unpack

LOOK = 300  # seconds: it counts the objects of two trees

_AS_OWNER = r"""
[ -d "$there" ] || die "has no $there: what it built was elsewhere, or is gone	doit adopt project=DIRECTORY names it"
there=$(readlink -e -- "$there") || exit
export there workdir what trees place
HOME=/ GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
	setpriv --reuid="$(stat -c %u -- "$there")" --regid="$(stat -c %g -- "$there")" --clear-groups -- sh -uc "$body"
"""


@dataclass(frozen=True)
class Other:
    """Another coordinator: the node, its project's directory and its workdir."""

    cluster: Cluster
    node: Node
    project: str
    workdir: str

    def look(self) -> dict[str, Any]:
        """What it has, see adopt_look.sh. Raises as node.ask()."""
        body = remote.script("adopt", "adopt_look")
        return remote.ask(self.cluster, self.node, remote.script() + _AS_OWNER, self._values(body), timeout=LOOK)

    def trees(self, trees: Trees, ids: Iterable[str]) -> None:
        """Its trees `ids`, into ours. Raises as receive()."""

        def take(stream: Stream) -> None:
            if not trees.take_in(cast(IO[bytes], stream)):
                raise Torn

        self._receive(take, what="trees", trees=" ".join(ids))

    def files(self, wanted: dict[str, str], top: Path, room: int) -> dict[str, Member]:
        """Of `wanted`, absolute paths there -> where they go below `top`, those that are there, by where they went. A
        directory comes with all below it where that ends in a slash, else it does not (a repository's mirror)."""

        def place(name: str) -> str | None:
            path, below = f"/{name}".rstrip("/"), ""
            while path not in wanted:
                path, _, last = path.rpartition("/")
                below = f"{last}/{below}"
                if not path:
                    return None
            whole = wanted[path].endswith("/")
            where = f"{wanted[path].rstrip('/')}/{below}".rstrip("/")
            return where if inside(where) and (whole or not below) else None

        names = [path.strip("/") + "/" * where.endswith("/") for path, where in wanted.items()]
        payload = b"".join(os.fsencode(name) + b"\0" for name in names)
        return self._unpack(top, place, room, payload, what="files")

    def kept(self, names: Iterable[str], top: Path, room: int) -> dict[str, Member]:
        """Of what it has kept, the files `names`, each at the same place below `top`."""
        asked = frozenset(names)
        payload = b"".join(os.fsencode(name) + b"\0" for name in asked)
        return self._unpack(top, lambda name: name if name in asked else None, room, payload, what="kept")

    def made(self, place: str, sources: Iterable[str], top: Path, room: int) -> dict[str, Member]:
        """What lies in its tree `place` and is none of `sources`, each at the same place below `top`."""
        known = frozenset(sources)
        payload = b"".join(os.fsencode(name) + b"\0" for name in known) * 2

        def fits(name: str) -> str | None:
            return name if inside(name) and name not in known else None

        return self._unpack(top, fits, room, payload, what="tree", place=place)

    def _unpack(
        self, top: Path, where: Callable[[str], str | None], room: int, payload: bytes, **values: str
    ) -> dict[str, Member]:
        top.mkdir(parents=True)
        came = self._receive(lambda stream: unpack(stream, top, where, room), payload, **values)
        return {str(member.path.relative_to(top)): member for member in came.values()}

    def _receive(self, take: Callable[[Stream], Any], payload: bytes = b"", **values: str) -> Any:
        body = remote.script("adopt", "adopt_send")
        text = remote.script() + _AS_OWNER
        return receive(self.cluster, self.node, text, self._values(body, **values), take, payload)

    def _values(self, body: str, what: str = "", trees: str = "", place: str = "") -> dict[str, str | int]:
        return {
            "there": self.project,
            "workdir": self.workdir,
            "body": body,
            "what": what,
            "trees": trees,
            "place": place,
        }
