"""From the bytes of a patch file to the lines of a diff: what mail, web and editors did to it is undone or refused."""

from __future__ import annotations

import re

from kbuild_tasks.core.patchfile import PatchError

_PACKED = {b"\x1f\x8b": "gzip -d", b"\xfd7zXZ": "xz -d", b"BZh": "bzip2 -d", b"\x28\xb5\x2f\xfd": "zstd -d"}
_HEADER = re.compile(rb"^(?:diff --git|---|\+\+\+) .*$", re.M)
_MAIL = re.compile(rb"^From [^\n]*\n(?=[A-Za-z-]+:)", re.M)
_MULTIPART = re.compile(rb"^content-type:[ \t]*multipart/", re.M | re.I)
_ENCODED = re.compile(rb"^content-transfer-encoding:[ \t]*(base64|quoted-printable)", re.M | re.I)


def read_lines(name: str, data: bytes) -> list[bytes]:
    """The lines of a patch file without their line ends.

    - carriage returns go where every header line of the file has one (patch(1): "Stripping trailing CRs from
      patch"): the file was mangled as a whole. Otherwise they belong to the lines of a CRLF source file and stay.
    - a mail whose body is base64 or quoted-printable is decoded (numbers of lines then count in the decoded text).
    Raises PatchError: empty, compressed, UTF-16, a web page, an attachment that is not saved.
    """
    if not data.strip():
        raise PatchError(name, 0, "is empty", "take it out of the series, or copy the patch again")
    for magic, tool in _PACKED.items():
        if data.startswith(magic):
            raise PatchError(name, 0, "is compressed", f"unpack it: {tool}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PatchError(name, 0, "is UTF-16 text", "save it as UTF-8 (PowerShell: git diff --output=FILE)")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html")):
        raise PatchError(
            name, 0, "is a web page, not a patch", "download the page's raw text (links called raw, plain or .patch)"
        )
    whole, data = data, _decode_mails(data)
    headers = _HEADER.findall(data)
    if not headers and _MULTIPART.search(whole) and _ENCODED.search(whole):
        raise PatchError(
            name, 0, "is a mail with the patch as an attachment", "save the attachment, and put it here in its place"
        )
    if headers and all(header.endswith(b"\r") for header in headers):
        data = data.replace(b"\r\n", b"\n")
    lines = data.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def _decode_mails(data: bytes) -> bytes:
    """Bodies of mails as text, where their headers say that they are encoded; all else as it was."""
    if not _ENCODED.search(data):
        return data
    starts = [match.start() for match in _MAIL.finditer(data)]
    if not starts or data[: starts[0]].strip():
        starts.insert(0, 0)
    ends = [*starts[1:], len(data)]
    return b"".join(_decode_mail(data[a:b]) for a, b in zip(starts, ends, strict=True))


def _decode_mail(mail: bytes) -> bytes:
    end = re.search(rb"\r?\n\r?\n", mail)
    if not end or not _ENCODED.search(mail[: end.start()]):
        return mail
    import email

    envelope = mail.partition(b"\n")[0] + b"\n" if mail.startswith(b"From ") else b""
    message = email.message_from_bytes(mail[len(envelope) :])
    body = message.get_payload(decode=True)
    return mail[: end.end()] + body if isinstance(body, bytes) else mail
