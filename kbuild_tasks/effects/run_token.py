"""The name of this run, given to nodes: what is asked in the name of a run that has ended is not done any more.

A run is a process: doit does one and ends. The name says nothing, so that it cannot be told wrong by a clock.
"""

from __future__ import annotations

import secrets

TOKEN = secrets.token_hex(8)
