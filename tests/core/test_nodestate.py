"""One act for each pair of journal and node: the table of what a kill, a power cut or a stranger may leave."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kbuild_tasks.core.history import History, fold
from kbuild_tasks.core.journal import Record
from kbuild_tasks.core.nodestate import Act, Seen, decide, runs, seen, valid_boot_id
from kbuild_tasks.core.rollout import Build

BUILD = Build("0123456789ab", "6.1.192-new", "b" * 40, "#1 new", "c" * 64)
ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
OLD = Seen(ONE, "6.1.190-old", "a" * 40, "#1 old", default="old", selected="old", known_good="", trial=None)
NEW = dataclasses.replace(
    OLD,
    boot_id=TWO,
    release=BUILD.release,
    build_id="b" * 40,
    version="#1 new",
    selected=BUILD.entry,
    trial=BUILD.build,
)
DONE = dataclasses.replace(NEW, default=BUILD.entry, known_good=BUILD.build, trial=None)


def history(state: str, boot_id: str = ONE, build: str = BUILD.build, **more: Any) -> History:
    return History(state, build, {"boot_id": boot_id}, known=frozenset([build]), **more)


def on(base: Seen, **changes: Any) -> Seen:
    return dataclasses.replace(base, **changes)


ARMED = on(OLD, armed=BUILD.entry, trial=BUILD.build)

TABLE: list[tuple[str, History, Seen, Act]] = [
    ("nothing was done", History(), OLD, Act.STAGE),
    ("it is done", History(), DONE, Act.DONE),
    (
        "done, and another kernel was booted since",
        history("UNCORDONED", TWO),
        on(OLD, known_good=BUILD.build),
        Act.STAGE,
    ),
    ("done, and another default was set since", history("UNCORDONED", TWO), on(DONE, default="old"), Act.STAGE),
    ("a trial that no journal knows", History(), ARMED, Act.REFUSE),
    ("a stranger's trial", history("UNCORDONED", build="ffff"), on(OLD, trial="eeee"), Act.REFUSE),
    ("an older trial of ours", History(known=frozenset(["eeee"])), on(OLD, trial="eeee"), Act.STAGE),
    ("staged", history("STAGED"), OLD, Act.INSTALL),
    ("installed", history("INSTALLED"), OLD, Act.BOOTFILES),
    ("boot files", history("BOOTFILES_OK"), OLD, Act.ARM),
    ("boot files, rebooted since", history("BOOTFILES_OK", TWO), OLD, Act.ARM),
    ("armed, not written down, then a power cut", history("BOOTFILES_OK"), NEW, Act.BACK),
    ("armed, not written down, and it fell back", history("BOOTFILES_OK", TWO), on(ARMED, armed=""), Act.FELL_BACK),
    ("armed, not written down, in the same boot", history("BOOTFILES_OK"), ARMED, Act.ARM),
    ("armed, not written down, in a later boot than deploy's", history("BOOTFILES_OK", TWO), ARMED, Act.ARM),
    ("drained, armed, not written down, and it fell back", history("DRAINED", TWO), on(ARMED, armed=""), Act.FELL_BACK),
    ("drained", history("DRAINED"), OLD, Act.ARM),
    ("armed", history("ARMED"), ARMED, Act.REBOOT),
    ("armed, and somebody disarmed it", history("ARMED"), OLD, Act.ARM),
    ("armed, then a power cut into the trial", history("ARMED"), NEW, Act.BACK),
    ("armed, then a power cut, and it fell back", history("ARMED", TWO), on(ARMED, armed=""), Act.FELL_BACK),
    ("armed, disarmed, rebooted", history("ARMED", TWO), OLD, Act.ARM),
    ("about to reboot", history("REBOOTING"), ARMED, Act.WAIT),
    ("back on the trial", history("REBOOTING"), NEW, Act.BACK),
    ("back on the old one", history("REBOOTING", TWO), on(ARMED, armed=""), Act.FELL_BACK),
    ("back on a third one", history("REBOOTING"), on(NEW, release="6.6"), Act.FELL_BACK),
    ("back on another build of it", history("REBOOTING"), on(NEW, build_id="d" * 40), Act.FELL_BACK),
    ("the same vmlinux from the old entry", history("REBOOTING"), on(NEW, selected="old"), Act.FELL_BACK),
    ("the loader ignored the one-shot", history("REBOOTING", TWO), ARMED, Act.NOT_TRIED),
    ("the dead man's switch", history("BACK", TWO), on(OLD, expired=True), Act.EXPIRED),
    ("back", history("BACK", TWO), NEW, Act.VERIFY),
    ("verified once", history("VERIFIED", TWO), NEW, Act.SETTLE),
    ("verified twice", history("VERIFIED2", TWO), NEW, Act.COMMIT),
    ("crashed while it was verified", history("VERIFIED", TWO), OLD, Act.FELL_BACK),
    ("rebooted into the trial again", history("VERIFIED", ONE), NEW, Act.BACK),
    ("committed", history("COMMITTED", TWO), DONE, Act.UNCORDON),
    ("committed, not written down, rebooted", history("VERIFIED2", ONE), DONE, Act.BACK),
    (
        "committed, not written down, and another one booted",
        history("VERIFIED2", TWO),
        on(OLD, default=BUILD.entry, known_good=BUILD.build),
        Act.UNCORDON,
    ),
    (
        "another build committed, not written down",
        history("VERIFIED2", build="ffff"),
        on(DONE, default="kbuild-ffff", known_good="ffff"),
        Act.UNCORDON,
    ),
    ("another build verified twice", history("VERIFIED2", build="ffff"), on(OLD, default="kbuild-ffff"), Act.REFUSE),
    ("it fell back", history("FELL_BACK", failed={BUILD.build: "panic"}), OLD, Act.DENIED),
    ("denied by the node alone", History(), on(OLD, denied={BUILD.build: "panic"}), Act.DENIED),
    ("denied, and still on the trial", history("BACK", TWO, failed={BUILD.build: "oops"}), NEW, Act.DENIED),
    (
        "denied by the node, not yet written down",
        history("REBOOTING", TWO),
        on(OLD, denied={BUILD.build: ""}),
        Act.FELL_BACK,
    ),
    ("another build armed here", history("ARMED", build="ffff"), OLD, Act.ABANDON),
    ("another build on its way", history("REBOOTING", build="ffff"), OLD, Act.REFUSE),
    ("another build half installed", history("INSTALLED", build="ffff"), OLD, Act.STAGE),
    ("another build committed", history("COMMITTED", build="ffff"), OLD, Act.UNCORDON),
    ("another build failed here", history("FELL_BACK", build="ffff", failed={"ffff": "panic"}), OLD, Act.STAGE),
]


@pytest.mark.parametrize(("name", "told", "node", "act"), TABLE, ids=[row[0] for row in TABLE])
def test_next(name: str, told: History, node: Seen, act: Act) -> None:
    step = decide(told, node, BUILD)
    assert step.act == act
    if act in (Act.REFUSE, Act.DENIED):
        assert step.why


def test_a_k3s_node_is_drained_before_it_is_armed() -> None:
    assert decide(history("BOOTFILES_OK"), OLD, BUILD, drains=True).act == Act.DRAIN
    assert decide(history("DRAINED"), OLD, BUILD, drains=True).act == Act.ARM
    assert decide(history("DRAINED", TWO), OLD, BUILD, drains=True).act == Act.DRAIN, "k3s runs again after a reboot"


def test_a_reboot_is_due_in_the_boot_that_was_armed_and_in_no_other() -> None:
    """Over the whole table: REBOOT and WAIT (which may ask again) only with the boot id of the record."""
    for _, told, node, _ in TABLE:
        for boot in (ONE, TWO):
            moved = on(node, boot_id=boot)
            if decide(told, moved, BUILD).act in (Act.REBOOT, Act.WAIT):
                assert told.data["boot_id"] == boot


def test_fold_takes_the_last_attempt_and_all_failures() -> None:
    def record(state: str, build: str = "b1", **data: Any) -> Record:
        return Record(1, "t", build, state, f"{state} of {build}", data)

    assert fold([]) == History()
    told = fold([record("STAGED"), record("ARMED", boot_id=ONE), record("FELL_BACK")])
    assert (told.state, told.build, dict(told.failed)) == ("FELL_BACK", "b1", {"b1": "FELL_BACK of b1"})
    told = fold([record("FELL_BACK"), record("STAGED", "b2"), record("BOOTFILES_OK", "b2", fence=3)])
    assert (told.state, told.build, dict(told.data)) == ("BOOTFILES_OK", "b2", {"fence": 3})
    assert "b1" in told.failed and told.known == {"b1", "b2"}
    assert fold([record("FELL_BACK"), record("ALLOWED")]).failed == {}
    done = [record("STAGED"), record("DRAINED", was_cordoned=True), record("UNCORDONED")]
    assert fold(done).data == {}, "what is true of an attempt ends with it"
    assert fold([*done, record("HELD", kind="other", was_cordoned=False)]).data["was_cordoned"] is False
    held = fold([record("REBOOTING", boot_id=ONE), record("HELD", kind="lost")])
    assert (held.state, held.kind, held.data["boot_id"]) == ("REBOOTING", "lost", ONE)
    assert fold([record("BACK"), record("HELD", kind="verify")]).failed
    assert fold([record("BACK"), record("HELD", kind="expired")]).state == ""
    assert fold([record("REBOOTING"), record("HELD", kind="lost"), record("BACK")]).held == ""


@pytest.mark.parametrize(
    "text",
    ["", "System is going down.", "11111111-1111-4111-8111-11111111111", "A" + ONE[1:], ONE + "\n", "null", None, 7],
)
def test_what_is_no_boot_id(text: Any) -> None:
    with pytest.raises(ValueError, match="is no boot id"):
        seen({"boot_id": text})
    assert valid_boot_id(ONE)


def test_the_trial_is_told_by_the_command_line_where_the_loader_tells_nothing() -> None:
    silent = on(NEW, selected="")
    assert runs(silent, BUILD)
    assert runs(on(silent, build=BUILD.build), BUILD)
    assert not runs(on(silent, build="fedcba987654"), BUILD)  # the same vmlinux, other modules
    assert not runs(on(NEW, build="fedcba987654"), BUILD)
    assert runs(on(silent, cmdline="BOOT_IMAGE=/boot/kbuild/0123456789ab/vmlinuz root=x"), BUILD)
    assert not runs(on(silent, cmdline="BOOT_IMAGE=/kbuild/ba9876543210/vmlinuz root=x"), BUILD)
    assert not runs(on(silent, cmdline="BOOT_IMAGE=/kbuild/keep-0123456789ab/vmlinuz root=x"), BUILD)
