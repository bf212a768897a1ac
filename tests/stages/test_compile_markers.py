"""What kbuild leaves of options that are off again."""

from __future__ import annotations

from pathlib import Path

from kbuild_tasks.effects.built import drop_markers


def test_only_markers_of_options_that_are_off_go(tmp_path: Path) -> None:
    config = tmp_path / "include/config"
    config.mkdir(parents=True)
    (config / "auto.conf").write_text('# made\nCONFIG_NET=y\nCONFIG_TUN=m\nCONFIG_LOCALVERSION=""\n')
    (config / "kernel.release").write_text("6.1\n")
    for name in ("NET", "TUN", "LOCALVERSION", "NLS_ISO8859_15", "64BIT"):
        (config / name).touch()
    drop_markers(tmp_path)
    assert sorted(path.name for path in config.iterdir()) == [
        "LOCALVERSION",
        "NET",
        "TUN",
        "auto.conf",
        "kernel.release",
    ]
    drop_markers(tmp_path / "none")
