"""Runs a shell script where it is itself run, and says what it took: one JSON object on its standard output.

python took.py SCRIPT. CPU seconds are those of the script and of all that it waited for, directly or not: of make,
doit, distcc and the preprocessors, and not of daemons that others started.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time


def main(script: str) -> None:
    # A file: what a run leaves in the background (ssh's master connections) would hold a pipe open.
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as said:
        began = time.monotonic()
        status = subprocess.run(["sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=said, stderr=said).returncode
        seconds = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        said.seek(0)
        out = said.read()
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"status": status, "seconds": seconds, "cpu": cpu, "out": out[-20000:]}))


if __name__ == "__main__":
    main(sys.argv[1])
