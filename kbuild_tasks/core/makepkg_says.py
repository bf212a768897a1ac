"""What makepkg says of a source that it cannot fetch, verify or unpack, in our words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Explained = tuple[str, str | None] | None


def explain(lines: Sequence[str]) -> Explained:
    """What makepkg said of a source, as one sentence and a hint; None where it said nothing of the kind."""
    kind = "checksum"
    for line in lines:
        words = line.split()
        if line.startswith("==> Validating "):
            kind = words[-1].removesuffix("sums...")
        name, dots, verdict = line.strip().partition(" ... ")
        if dots and line.startswith("    ") and (told := _explain_verdict(name, verdict.strip(), kind)):
            return told
        if line.startswith("==> ERROR: "):
            return _explain_error(line.removeprefix("==> ERROR: "), lines)
    return None


def _explain_verdict(name: str, verdict: str, kind: str) -> Explained:
    key = verdict.removesuffix(")").split(" ")[-1]
    if verdict == "FAILED":
        return (
            f"{name} does not have the {kind} sum that the PKGBUILD names",
            "what was downloaded is not what the PKGBUILD's author saw: compare with upstream before changing the sum",
        )
    if verdict.startswith("FAILED (unknown public key"):
        return (
            f"the signature of {name} is by a key that is not in your keyring: {key}",
            f"if that is the right author's key (validpgpkeys): gpg --recv-keys {key}",
        )
    if verdict.startswith("FAILED (invalid public key"):
        return f"the signature of {name} is by key {key}, which validpgpkeys does not name", "do not use this source"
    if verdict.startswith("FAILED (bad signature"):
        return f"the signature of {name} is wrong: the file was changed after it was signed", "do not use this source"
    if verdict.startswith("FAILED (the public key"):
        key = verdict.split(" ")[4]
        return (
            f"the signature of {name} is by a key that you do not trust: {key}",
            f"name it in the PKGBUILD: validpgpkeys=({key})",
        )
    if verdict.startswith("FAILED"):
        return f"the signature of {name} could not be verified: {verdict}", None
    if verdict.endswith("NOT FOUND"):
        return f"{name}: {verdict.lower()}", "source=() must name the file and, beside it, its signature"
    return None


def _explain_error(error: str, lines: Sequence[str]) -> Explained:
    for start in ("Failure while downloading ", "Failed to extract "):
        if error.startswith(start):
            why = [line.strip() for line in lines if line.startswith(("curl: (", "fatal: ", "bsdtar: "))]
            what = "downloaded" if "download" in start else "unpacked"
            because = f": {why[-1]}" if why else ""
            hint = "check the network and the address in source=()" if what == "downloaded" else None
            hint = "is there no space left? df -h" if "curl: (23)" in because else hint  # curl(1): a write error
            return f"{error.removeprefix(start)} could not be {what}{because}", hint
    name, found, _ = error.partition(" was not found in the build directory")
    if found:
        return f"{name} is named in source=() and does not lie beside the PKGBUILD", f"put {name} there"
    return f"makepkg: {error}", "script/setup installs what is needed" if error.startswith("Cannot find the ") else None
