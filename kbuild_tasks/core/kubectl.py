"""kubectl's own words about a failure, as an error with a hint: its exit status is 1 for everything.

Told apart because they are answered differently: an API that is away or only partly up may be back in a second; a
node that somebody else changed between our reading and our writing is read again; all else is for a person.
"""

from __future__ import annotations

import re

from kbuild_tasks.core.errors import KbuildError


class ApiUnreachable(KbuildError):
    """The API gave no answer of its own: it is away, or only partly up."""


class Conflict(KbuildError):
    """Somebody else changed the object after it was read."""


_AWAY = re.compile(
    r"Unable to connect|connection refused|was refused - did you|connection reset|i/o timeout|deadline exceeded"
    r"|TLS handshake timeout|no route to host|network is unreachable|no such host|\bEOF\b|apiserver not ready"
    r"|ServiceUnavailable|currently unable to handle the request|etcdserver:|request timed out"
    r"|Client\.Timeout|server closed",
    re.IGNORECASE,
)


def trouble(said: str, what: str) -> KbuildError:
    """The error that kubectl's stderr tells. what: "read node kubenode2"."""
    lines = [line for line in said.strip().splitlines() if line.strip()][-3:]
    if "x509" in said:
        clock = "not yet valid" in said or "has expired" in said
        return KbuildError(
            f"k3s' API has a certificate that is not valid here: could not {what}",
            "compare the clocks: timedatectl, here and on the server" if clock else "is the kubeconfig this cluster's?",
            evidence=lines,
        )
    if "(Conflict)" in said:
        return Conflict(f"somebody else changed it meanwhile: could not {what}", "run it again", evidence=lines)
    if "(NotFound)" in said:
        return KbuildError(
            f"k3s does not know it: could not {what}",
            "kubectl get nodes: cluster.yaml must name the nodes as k3s does",
            evidence=lines,
        )
    if "Unauthorized" in said or "logged in to the server" in said:
        return KbuildError(f"k3s' API does not know us: could not {what}", "correct the kubeconfig", evidence=lines)
    if "(Forbidden)" in said:
        return KbuildError(
            f"k3s' API does not let us: could not {what}",
            "give the kubeconfig's user that right (docs/k3s.md)",
            evidence=lines,
        )
    if _AWAY.search(said):
        return away(what, lines)
    return KbuildError(f"kubectl could not {what}", "see what it says above", evidence=lines)


def away(what: str, lines: list[str]) -> ApiUnreachable:
    return ApiUnreachable(
        f"k3s' API does not answer: could not {what}",
        "is k3s up on a server (systemctl status k3s)? compare the address in the kubeconfig",
        evidence=lines,
    )
