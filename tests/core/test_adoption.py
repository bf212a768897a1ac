"""What another coordinator says of itself: taken where it can be true, refused in one sentence where it cannot."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from kbuild_tasks.core.adoption import inside, offer, pinned
from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.core.origin import Origin, read_origin

STAGES = ("extract", "patch", "configure", "compile", "package")
TREE, PATCHED, SUM = "1" * 40, "2" * 40, "a" * 64
BOTH = hashlib.sha256(f"{SUM}  linux-x.pkg.tar.zst\n".encode()).hexdigest()
COMPILER = {"text": "gcc 12", "binutils": "as 2.40"}
ROOT = "/srv/kernel"
PLACE = "linux-x/src/linux-6.1"


def receipt(values: dict[str, Any] | None = None, **results: Any) -> dict[str, Any]:
    inputs = {"files": {"patches/a.patch": SUM}, "order": [], "values": values or {}, "receipts": {}}
    return {"inputs": inputs, "results": results}


RECEIPTS: dict[str, Any] = {
    "extract": receipt(
        tree=TREE,
        pkgbase="linux-x",
        pkgver="6.1.192",
        srctree="linux-6.1",
        sources={"linux.tar.xz": "b2:" + "0" * 128},
        beside={},
    ),
    "patch": receipt(tree=PATCHED, place=PLACE, beside={}, prepared=[]),
    "configure": receipt(place=PLACE, config_sha256=SUM),
    "compile": receipt({"compiler": COMPILER}, tree=PLACE, vmlinux_sha256=SUM),
    "package": receipt(packages={"linux-x.pkg.tar.zst": SUM}, packages_sha256=BOTH),
}
MANIFEST = {
    "packages_sha256": BOTH,
    "packages": [{"file": "linux-x.pkg.tar.zst", "sha256": SUM, "signature": "linux-x.pkg.tar.zst.sig"}],
}
RECORD = {"root": ROOT, "tree": PATCHED, "results": RECEIPTS["compile"]["results"]}
KEPT: dict[str, Any] = {"place": PLACE, "tree": PATCHED, "built": RECORD, "files": {"vmlinux": [1, 33188, 3, SUM]}}


def b64(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def answer(change: Callable[[dict[str, Any]], object] = lambda told: None) -> dict[str, Any]:
    told: dict[str, Any] = copy.deepcopy({**RECEIPTS, "manifest": MANIFEST, "kept": KEPT})
    change(told)
    built = told.pop("built", [])
    return {key: b64(value) for key, value in told.items()} | {
        "built": [{"name": base64.b64encode(name.encode()).decode(), "text": b64(text)} for name, text in built]
    }


def asked(change: Callable[[dict[str, Any]], object] = lambda told: None, compiler: dict[str, str] = COMPILER) -> Any:
    return offer("n1", answer(change), STAGES, ROOT, compiler)


def test_all_of_it() -> None:
    made = asked()
    assert (made.place, made.trees, made.objects) == (PLACE, (TREE, PATCHED), "kept")
    assert (list(made.packages), made.signatures) == (["linux-x.pkg.tar.zst"], ("linux-x.pkg.tar.zst.sig",))
    assert made.inputs == [SUM] and made.config == SUM


@pytest.mark.parametrize("last", range(1, 5))
def test_as_far_as_it_came(last: int) -> None:
    made = asked(lambda told: [told.pop(stage) for stage in STAGES[last:]])
    assert tuple(made.receipts) == STAGES[:last]
    assert made.objects == ("kept" if last == 4 else "")


def test_a_tree_without_a_copy_of_it() -> None:
    def on_disk(told: dict[str, Any]) -> None:
        del told["kept"]
        told["built"] = [("other/.linux.built", {}), ("linux-x/.linux-6.1.built", RECORD)]

    assert asked(on_disk).objects == "tree"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("kept"),
        lambda told: told["kept"].update(built=None),  # not all of it came back there
        lambda told: told["kept"]["built"].update(root="/srv/another"),
        lambda told: told["kept"].update(tree=TREE),
        lambda told: told["kept"]["built"].update(results={"vmlinux_sha256": "b" * 64}),
    ],
)
def test_objects_that_its_receipts_do_not_tell_of_stay(change: Callable[[dict[str, Any]], object]) -> None:
    made = asked(change)
    assert made.objects == "" and "no copy of one is left there" in made.why and made.kept == {}


def test_objects_of_another_compiler_stay() -> None:
    made = asked(compiler={**COMPILER, "binutils": "as 2.41"})
    assert made.objects == "" and made.why == "it compiled with gcc 12 and as 2.40, and here is gcc 12 and as 2.41"


def put(*path: str) -> Callable[[Any], Callable[[dict[str, Any]], None]]:
    def with_value(value: Any) -> Callable[[dict[str, Any]], None]:
        def change(told: dict[str, Any]) -> None:
            for key in path[:-1]:
                told = told[key]
            told[path[-1]] = value

        return change

    return with_value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.pop("extract"), "no receipt in /srv/kernel/build/receipts"),
        (put("extract", "results", "srctree")("../../etc"), "names a file '../../etc'"),
        (put("extract", "results", "pkgbase")("-rf"), "names a file '-rf'"),
        (put("extract", "results", "pkgbase")(""), "names a file ''"),
        (put("extract", "results", "tree")("HEAD; rm -rf /"), "is no hash"),
        (put("extract", "results", "sources")({"../x": "SKIP"}), "names a file '../x'"),
        (put("extract", "results", "sources")({"a\nb": "SKIP"}), "names a file"),
        (put("patch", "results", "prepared")(["/etc/passwd"]), "names a file '/etc/passwd'"),
        (put("extract", "results", "sources")({"a": None}), "no list of sums"),
        (put("extract", "results", "beside")(["a"]), "no list of sums"),
        (put("patch", "results", "place")("linux-y/src/linux-6.1"), "different trees"),
        (put("compile", "results", "vmlinux_sha256")(None), "is no hash"),
        (put("package", "results", "packages")({"../p.zst": SUM}), "names a file '../p.zst'"),
        (put("package", "results", "packages")({"p.zst": "short"}), "is no hash"),
        (put("extract", "results", "pkgver")("6.1; rm -rf ~"), "'6.1; rm -rf ~' is no version"),
        (put("extract", "results", "pkgver")("$(id)"), "is no version"),
        (put("patch", "inputs", "files")({"a": 3}), "without a sum"),
        (put("patch")({"no": "receipt"}), "KeyError"),
        (put("compile", "inputs", "values")([]), "another form"),
    ],
)
def test_what_cannot_be_true(change: Callable[[dict[str, Any]], object], said: str) -> None:
    with pytest.raises(NodeRefused, match="n1 tells of its build what this version does not take") as told:
        asked(change)
    assert said in told.value.evidence[0] and told.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("kept", "files")({"../vmlinux": [1, 1, 1, SUM]}), "kept a file '../vmlinux'"),
        (put("kept", "files")({"/etc/cron.d/x": [1, 1, 1, SUM]}), "kept a file '/etc/cron.d/x'"),
        (put("kept", "directories")(["../x"]), "kept a directory '../x'"),
        (put("kept", "directories")([3]), "split"),
        (put("kept", "files")({"a//b": [1, 1, 1, SUM]}), "kept a file"),
        (put("kept", "files")({"vmlinux": [-1, 1, 1, SUM]}), "kept a file"),
        (put("kept", "files")({"vmlinux": "all"}), "unpack"),
        (put("kept", "files")({"vmlinux": [1, 1, 1, None]}), "without a sum"),
        (put("kept", "files")(None), "AttributeError"),
    ],
)
def test_a_list_of_objects_that_cannot_be_true_costs_the_objects(change: Callable[[Any], object], said: str) -> None:
    made = asked(change)
    assert (made.objects, made.kept, made.place) == ("", {}, PLACE)
    assert made.why.startswith("its list of what it kept cannot be true: ") and said in made.why
    assert tuple(made.receipts) == STAGES and made.packages


CUT = ["", base64.b64encode(b'{"inputs": {').decode(), b64(3), b64([]), b64(None), "%%%", "AA=="]


@pytest.mark.parametrize("cut", CUT)
def test_a_small_record_that_was_cut_counts_as_missing(cut: str) -> None:
    """After a power cut: files of zero bytes, or half of their JSON."""

    def told(**changes: Any) -> Any:
        return offer("n1", {**answer(), **changes}, STAGES, ROOT, COMPILER)

    name = base64.b64encode(b"linux-x/.linux-6.1.built").decode()
    assert told(manifest=cut).manifest == {} and told(manifest=cut).objects == "kept"
    made = told(kept=cut, built=[{"name": name, "text": cut}])
    assert made.objects == "" and "no copy of one is left there" in made.why and made.manifest
    assert told(kept=cut, built=[{"name": name, "text": cut}, {"name": name, "text": b64(RECORD)}]).objects == "tree"
    assert tuple(told(compile=cut).receipts) == STAGES[:3] and told(compile=cut).objects == ""
    with pytest.raises(NodeRefused):
        told(extract=cut)


def test_a_project_that_is_asked_for_by_a_link() -> None:
    """Its records name it without the link, or with it where it was run so."""

    def told(root: str, record: str) -> Any:
        kept = {**KEPT, "built": {**RECORD, "root": record}}
        answers = {**answer(), "root": base64.b64encode(root.encode()).decode(), "kept": b64(kept)}
        return offer("n1", answers, STAGES, "/link", COMPILER)

    assert (told(ROOT, ROOT).root, told(ROOT, ROOT).objects) == (ROOT, "kept")
    assert told(ROOT, "/link").objects == "kept" and told(ROOT, "/srv/another").objects == ""
    with pytest.raises(NodeRefused):
        told("srv/kernel", ROOT)


def test_how_much_comes() -> None:
    sizes = {
        "sources/linux.tar.xz": 1,
        "sources/other": 10,
        "srcdir/linux-x": 100,
        "srcdir/y": 1000,
        "kept": 10**4,
        PLACE: 10**5,
    }
    told = {**answer(), "bytes": 7, "sizes": [
        {"name": base64.b64encode(name.encode()).decode(), "kib": kib} for name, kib in sizes.items()
    ]}  # fmt: skip
    assert offer("n1", told, STAGES, ROOT, COMPILER).bytes == 7 + 1024 * 10101
    name = base64.b64encode(b"linux-x/.linux-6.1.built").decode()
    told |= {"kept": "", "built": [{"name": name, "text": b64(RECORD)}]}
    assert offer("n1", told, STAGES, ROOT, COMPILER).bytes == 7 + 1024 * 100101


def test_an_answer_that_is_no_base64_or_no_json() -> None:
    for text in ("%%%", base64.b64encode(b"{").decode(), b64(3)):
        with pytest.raises(NodeRefused):
            offer("n1", {"extract": text}, STAGES, ROOT, COMPILER)


def test_packages_that_no_manifest_names_stay() -> None:
    assert asked(put("manifest")({"packages": []})).manifest == {}
    assert asked(put("manifest")(None)).manifest == {}
    packages = MANIFEST["packages"]
    for bad in (
        {**MANIFEST, "packages": [{**packages[0], "sha256": "b" * 64}]},  # type: ignore[dict-item]
        {**MANIFEST, "packages": [*packages, {"file": "more.pkg.tar.zst", "sha256": SUM}]},
        {**MANIFEST, "packages_sha256": SUM},
        {**MANIFEST, "packages": 3},
    ):
        assert asked(put("manifest")(bad)).manifest == {}


def test_who_synced() -> None:
    value = {"coordinator": "n1", "project": "/srv/k", "workdir": "/w", "left_out": ["kernel/big.tar"]}
    assert read_origin(json.dumps(value).encode()) == Origin("n1", "/srv/k", "/w", ("kernel/big.tar",))
    for bad in (b"", b"[]", b"3", b"{", b"\xff", *(
        json.dumps({**value, **change}).encode()
        for change in ({"project": "k"}, {"coordinator": ""}, {"workdir": 3}, {"left_out": [1]}, {"left_out": "x"})
    )):  # fmt: skip
        assert read_origin(bad) is None


def test_inside() -> None:
    assert all(map(inside, ("a", "a/b", ".x", "a/..b")))
    assert not any(map(inside, ("", "/a", "a/", "../a", "a/../b", "./a", "a//b", "a\0")))


def test_which_sum_counts() -> None:
    assert pinned("x", "sha256:ab", {}) == ("sha256", "ab")
    assert pinned("x", "b2:cd", {"x": SUM}) == ("blake2b", "cd")
    assert pinned("x.sig", "SKIP", {"x.sig": "x:" + SUM}) == ("sha256", SUM)
    assert pinned("x", "SKIP", {"x": "link:/somewhere"}) is None
    assert pinned("x", "md5:00", {}) is None
