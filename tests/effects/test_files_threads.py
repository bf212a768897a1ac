"""Tasks are threads of one process, and several may write one file: what is kept of a node that two of them ask."""

from __future__ import annotations

import threading
from pathlib import Path

from kbuild_tasks.effects.files import write_atomic


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    """They shared a scratch file: one renamed it away from under the other, whose task then failed."""
    file, failed, start = tmp_path / "n7-seen.json", [], threading.Barrier(8)
    texts = [str(number) * 50_000 for number in range(8)]

    def write(text: str) -> None:
        start.wait()
        try:
            for _ in range(100):
                write_atomic(file, text, durable=False)
                assert file.read_text() in texts
        except (OSError, AssertionError) as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
