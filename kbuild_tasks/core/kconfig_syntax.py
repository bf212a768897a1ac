"""What a line of a configuration file may be, and which values may reach make and the shell.

The kernel's own tools ignore what they do not understand: scripts/kconfig/conf warns of "unexpected data" in the
middle of its output and ends with 0, merge_config.sh says nothing, and `CONFIG_X=yes` counts as y because only its
first letter is read (confdata.c, conf_set_sym_val). A line that looks like a request and is none is how options
vanish for a year; here each is refused with its file and line.

Values matter beyond syntax: kbuild copies every string into include/config/auto.conf, which make includes, and since
5.17 without its quotes. There `$(shell ...)` is executed by make when the variable is used (measured on 6.1 with
CONFIG_SYSTEM_TRUSTED_KEYS), and `$(...)`, `;` or a quote is executed by the shells of recipes and of older
scripts/setlocalversion. So `$` and the backquote are refused in every string, and what separates or quotes shell words
in every string but the kernel command line, which only the C compiler reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kbuild_tasks.core.errors import ConfigError

_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_NOT_SET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")
_ALMOST_NOT_SET = re.compile(r"\s*#+\s*(?:CONFIG_)?([A-Za-z0-9_]+)\s+is\s+not\s+set\b.*", re.IGNORECASE)
_ALMOST_SET = re.compile(r"\s*(?:CONFIG_)?([A-Za-z0-9_]+)\s*=\s*(.*)")
_NUMBER = re.compile(r"-?[0-9]+|0[xX][0-9a-fA-F]+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_WORDS = {
    "yes": "y",
    "true": "y",
    "on": "y",
    "no": "n",
    "false": "n",
    "off": "n",
    "module": "m",
    "Y": "y",
    "N": "n",
    "M": "m",
}
_EXECUTED = re.compile(r"[$`\x00-\x08\x0a-\x1f\x7f]")
_SHELL = re.compile(r"""[;&|<>'"\\#*?]""")
_COMMAND_LINES = frozenset({"CMDLINE"})  # read through autoconf.h by C alone
SYMBOL = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Request:
    """One option that someone asks for.

    symbol    without CONFIG_
    value     as the line has it: y, m, n, 42, 0x2a, or "text" with its quotes; "is not set" is n
    file      project-relative path of who asks; for `require` the name of cluster.yaml
    line      1-based; 0 where a line is not known
    required  from `require`: y and m both satisfy it
    """

    symbol: str
    value: str
    file: str
    line: int
    required: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def wanted(self) -> str:
        return "y or m" if self.required else self.value

    @property
    def text(self) -> str:
        """The line that asks for it, as kconfig writes it."""
        return f"# CONFIG_{self.symbol} is not set" if self.value == "n" else f"CONFIG_{self.symbol}={self.value}"


def parse(text: str, name: str) -> list[Request]:
    """Every request of a configuration file or fragment, in order.

    `name` is what messages call the file. Raises ConfigError with one piece of evidence for each bad line.
    """
    found: list[Request] = []
    bad: list[str] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip()
        request = _read(line, name, number)
        if isinstance(request, str):
            bad.append(f"{name}:{number}: {request}")
        elif request:
            found.append(request)
    if bad:
        what = "a line that is" if len(bad) == 1 else f"{len(bad)} lines that are"
        raise ConfigError(
            f"{name} has {what} no valid configuration; the kernel's tools would ignore or misread it",
            "write CONFIG_NAME=value (y, m, n, a number or a quoted string), or # CONFIG_NAME is not set",
            evidence=bad,
        )
    return found


def _read(line: str, name: str, number: int) -> Request | str | None:
    """A request, None for a line that asks for nothing, or what is wrong with it."""
    if not line:
        return None
    if unset := _NOT_SET.fullmatch(line):
        return Request(unset[1], "n", name, number)
    if almost := _ALMOST_NOT_SET.fullmatch(line):
        bare = almost[1].removeprefix("CONFIG_")
        if bare.isupper() or "CONFIG_" in line:
            return f"{_cut(line)}: tools disagree whether this asks for anything; write # CONFIG_{bare} is not set"
        return None  # prose
    if line.startswith("#"):
        return None
    if not (given := _SET.fullmatch(line)):
        return _misread(line)
    wrong = _wrong_value(given[1], given[2])
    return f"{_cut(line)}: {wrong}" if wrong else Request(given[1], given[2], name, number)


def _misread(line: str) -> str:
    if line.startswith("\ufeff"):
        return "a byte order mark hides this line from kconfig; save the file without it"
    almost = _ALMOST_SET.fullmatch(line)
    if almost and not line.startswith("export "):
        value = _WORDS.get(almost[2].strip(), almost[2].strip())
        return f"{_cut(line)}: kconfig ignores this line; write CONFIG_{almost[1]}={_cut(value)}"
    return f"{_cut(line)}: kconfig ignores this line; it asks for nothing"


def _wrong_value(symbol: str, value: str) -> str | None:
    if value in ("y", "m", "n") or _NUMBER.fullmatch(value):
        return None
    if _STRING.fullmatch(value):
        return _hostile(symbol, unquote(value))
    if value in _WORDS:
        return f"{value} is no value of kconfig; write CONFIG_{symbol}={_WORDS[value]}"
    if not value:
        return f'a value is missing; write CONFIG_{symbol}="" for an empty string, or # CONFIG_{symbol} is not set'
    head = re.match(r'("(?:[^"\\]|\\.)*"|[A-Za-z0-9]+)\s*(.+)', value)
    if head and (head[1].startswith('"') or head[2].startswith("#")):
        return f"nothing may follow the value {_cut(head[1])}; put a comment on a line of its own"
    return "the closing quote is missing" if value.startswith('"') else f'a string needs quotes: "{_cut(value)}"'


def _hostile(symbol: str, text: str) -> str | None:
    if found := _EXECUTED.search(text):
        shown = found[0] if found[0].isprintable() else f"the control character {ord(found[0]):#04x}"
        return f"{shown} in a string would be executed or misread by make, which includes every value; leave it out"
    if symbol not in _COMMAND_LINES and (found := _SHELL.search(text)):
        return f"{found[0]} in a string can end up in a shell of the kernel's makefiles; leave it out"
    if symbol == "LOCALVERSION" and not re.fullmatch(r"[A-Za-z0-9._+~-]*", text):
        return "the kernel release takes letters, digits and . _ + ~ - only"
    return None


def unquote(value: str) -> str:
    """The text of a quoted string as kconfig reads it (a backslash takes the next character as it is)."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def same(wanted: str, got: str) -> bool:
    """Whether two values mean the same: 0x0A and 0xa do, "a\\b" and "ab" do, 10 and 0xa do not."""
    if wanted == got:
        return True
    if wanted.startswith('"') and got.startswith('"'):
        return unquote(wanted) == unquote(got)
    if _NUMBER.fullmatch(wanted) and _NUMBER.fullmatch(got) and _is_hex(wanted) == _is_hex(got):
        base = 16 if _is_hex(wanted) else 10
        return int(wanted, base) == int(got, base)
    return False


def _is_hex(value: str) -> bool:
    return value[:2] in ("0x", "0X")


def required(symbols: Iterable[str], lines: dict[str, int], source: str) -> list[Request]:
    """The `require` list of cluster.yaml as requests. Raises ConfigError on a name that can be no option."""
    found = []
    for symbol in symbols:
        bare = symbol.removeprefix("CONFIG_")
        line = lines.get(symbol, 0)
        if not SYMBOL.fullmatch(bare):
            where = f"{source}:{line}" if line else source
            raise ConfigError(
                f"{where}: kernel.require: {symbol!r} is no name of an option",
                "write the name as Kconfig has it, such as OVERLAY_FS",
            )
        found.append(Request(bare, "y", source, line, required=True))
    return found


def parse_config(text: str) -> dict[str, str]:
    """symbol -> value of a .config that kconfig itself wrote; "is not set" is n."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if given := _SET.fullmatch(line):
            values[given[1]] = given[2]
        elif unset := _NOT_SET.fullmatch(line):
            values[unset[1]] = "n"
    return values


def lines_of(requests: Sequence[Request]) -> str:
    """Requests as the text of a configuration file."""
    return "".join(f"{request.text}\n" for request in requests)


def _cut(text: str, width: int = 60) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= width else f"{shown[:width]}..."
