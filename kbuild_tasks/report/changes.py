"""What changed against the last build: files of the project, options, packages; and the patches with their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbuild_tasks.core import contents, kconfig
from kbuild_tasks.core.kconfig_syntax import parse_config
from kbuild_tasks.core.when import when
from kbuild_tasks.report.html import Html, chip, code, join, missing, more, section, table, tag
from kbuild_tasks.report.model import Material, records, strings
from kbuild_tasks.report.words import plural, signed, size

OPTIONS = 200
FILES = 60


def changes(told: Material) -> Html:
    now, before = told.now, told.before
    if not now:
        why = "No set of packages is kept yet to compare with; the next one will be."
        return section("changes", "Against the last build", missing(why), _packages(told))
    note = f"of {when(before.get('at'))}" if before else ""
    return section(
        "changes",
        "Against the last build",
        None if before else missing("The packages are the first that were kept: there is nothing to compare with yet."),
        _names(told) if before else None,
        _inputs(told) if before else None,
        _config(told),
        _packages(told),
        note=note,
    )


def _manifest(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    value = kept.get("manifest")
    return value if isinstance(value, Mapping) else {}


def _names(told: Material) -> Html | None:
    old, new = (_manifest(kept).get("kernelrelease") for kept in (told.before, told.now))
    return tag("p", code(old), " → ", code(new)) if old != new else None


def inputs_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Files of the project that went into a set of packages -> digest."""
    found: dict[str, str] = {}
    for stage in records(manifest.get("inputs")).values():
        files = stage.get("files")
        found |= {str(name): str(digest) for name, digest in files.items()} if isinstance(files, Mapping) else {}
    return found


def _inputs(told: Material) -> Html:
    old, new = inputs_of(_manifest(told.before)), inputs_of(_manifest(told.now))
    rows: list[list[Any]] = [[chip("new", "ok"), code(name)] for name in new if name not in old]
    rows += [[chip("changed", "warn"), code(name)] for name in new if name in old and old[name] != new[name]]
    rows += [[chip("gone", "bad"), code(name)] for name in old if name not in new]
    old_tools, new_tools = (_compiler(_manifest(kept)) for kept in (told.before, told.now))
    if old_tools != new_tools:
        rows.append([chip("changed", "warn"), f"compiler: {old_tools} → {new_tools}"])
    title = tag("h3", "Your files")
    return join(title, table(["", "file"], rows, "tight") if rows else missing("No input of the project changed."))


def _compiler(manifest: Mapping[str, Any]) -> str:
    value = manifest.get("compiler")
    return str(value.get("text") or value) if isinstance(value, Mapping) else "unknown"


def _config(told: Material) -> Html | None:
    old, new = told.before.get("config"), told.now.get("config")
    pairs = [("Options", old, new)] if isinstance(old, str) and isinstance(new, str) and old else []
    if told.config and isinstance(new, str) and new and told.config != new:
        pairs.insert(0, ("Options, configured and not packaged yet", new, told.config))
    return join([_options(*pair) for pair in pairs]) if pairs else None


def _options(title: str, old: str, new: str) -> Html:
    found = kconfig.diff(parse_config(old), parse_config(new))
    if not found:
        return join(tag("h3", title), missing("The .config is as before."))
    rows = [
        [code(symbol), tag("code", before or "n", class_="del"), tag("code", after or "n", class_="ins")]
        for symbol, before, after in found[:OPTIONS]
    ]
    beyond = tag("p", f"and {len(found) - OPTIONS} more", class_="aside") if len(found) > OPTIONS else None
    head = tag("h3", title, tag("small", plural(len(found), "difference")))
    listed = table(["option", "before", "now"], rows, "tight")
    return join(head, more("all of them", listed, beyond) if len(found) > 25 else join(listed, beyond))


def _packages(told: Material) -> Html | None:
    packages = told.manifest.get("packages")
    found = [p for p in packages if isinstance(p, Mapping)] if isinstance(packages, list) else []
    if not found:
        return join(tag("h3", "Packages"), missing("There is no package yet."))
    same = _manifest(told.now).get("packages_sha256") == told.manifest.get("packages_sha256")
    sizes = {
        str(p.get("pkgname")): p.get("size")
        for p in _manifest(told.before).get("packages") or ()
        if same and isinstance(p, Mapping)
    }
    rows: list[list[Any]] = []
    for package in found:
        name, bytes_ = str(package.get("pkgname")), package.get("size")
        was = sizes.get(name)
        delta = signed(bytes_ - was) if isinstance(bytes_, int) and isinstance(was, int) else "new" if sizes else "–"
        about = tag("div", code(package.get("file")), class_="file")
        signed_ = chip("signed", "ok") if package.get("signature") else None
        rows.append(
            [
                join(tag("b", name), " ", signed_, about),
                size(bytes_) if isinstance(bytes_, int) else "?",
                delta,
                _contents(told, name) if same else "",
            ]
        )
    gone = [name for name in sizes if name not in {str(p.get("pkgname")) for p in found}]
    rows += [[tag("b", name), "–", "gone", ""] for name in gone]
    return join(tag("h3", "Packages"), table(["package", "#size", "#change", "what changed in it"], rows, "stack"))


def _contents(told: Material, name: str) -> Html:
    new = contents.files(records(told.now.get("files")).get(name))
    old = contents.files(records(told.before.get("files")).get(name)) if told.before else {}
    beyond = told.now.get("more")
    more_ = beyond.get(name) if isinstance(beyond, Mapping) else None
    unlisted = more_ if isinstance(more_, int) and more_ > 0 else 0
    count = f"{plural(len(new) + unlisted, 'file')}, {size(sum(told[0] for told in new.values()))} installed"
    if unlisted:
        count += f" without the {unlisted} that are not listed"
    if not old:
        return tag("span", count)
    releases = tuple(str(_manifest(kept).get("kernelrelease") or "") for kept in (told.before, told.now))
    found = contents.difference(old, new, (releases[0], releases[1]))
    if not found:
        return tag("span", f"{count}: all as before")
    head = f"{len(found.changed)} changed, {len(found.added)} new, {len(found.removed)} gone, of {count}"
    lines = [
        ["changed", path, signed(after - before) if after != before else "same size"]
        for path, before, after in found.changed[:FILES]
    ]
    lines += [["new", path, signed(bytes_)] for path, bytes_ in found.added[:FILES]]
    lines += [["gone", path, signed(-bytes_)] for path, bytes_ in found.removed[:FILES]]
    rows = [[chip(state, _KIND[state]), code(path), delta] for state, path, delta in lines]
    total = len(found.changed) + len(found.added) + len(found.removed)
    rest = tag("p", f"and {total - len(lines)} more", class_="aside") if total > len(lines) else None
    return more(head, table(["", "file", "#bytes"], rows, "tight"), rest)


_KIND = {"changed": "warn", "new": "ok", "gone": "bad"}


def patches(told: Material) -> Html:
    results = told.patch.get("results")
    results = results if isinstance(results, Mapping) else {}
    series, touched = strings(results.get("series")), results.get("touched")
    if not results:
        return section("patches", "Patches", missing("No patch was applied yet."))
    if not series:
        return section("patches", "Patches", missing("There is no patch: the source is as it was published."))
    files: dict[str, list[str]] = {}
    for path, names in touched.items() if isinstance(touched, Mapping) else ():
        for name in strings(names):
            files.setdefault(name, []).append(str(path))
    shared = {path for path, names in touched.items() if len(names) > 1} if isinstance(touched, Mapping) else set()
    state = _changed(told)
    items = [_patch(name, told.patches.get(name, {}), files.get(name, []), shared, state.get(name)) for name in series]
    note = f"{plural(len(series), 'patch').replace('patchs', 'patches')}, {plural(len(touched or ()), 'file')}"
    return section("patches", "Patches", tag("ol", items, class_="patches"), note=note)


def _changed(told: Material) -> dict[str, str]:
    """Patch -> "new" or "changed" since the last build."""
    if not told.before:
        return {}
    old, new = (
        {name.rpartition("/")[2]: d for name, d in inputs_of(_manifest(k)).items()} for k in (told.before, told.now)
    )
    return {name: "changed" if name in old else "new" for name in new if old.get(name) != new[name]}


def _patch(name: str, about: Mapping[str, Any], files: list[str], shared: set[str], state: str | None) -> Html:
    subject = about.get("subject") or name
    lines = None
    if about.get("added") == about.get("removed") == 0:
        lines = tag("span", "no line: a mode or a name", class_="lines")
    elif isinstance(about.get("added"), int) and isinstance(about.get("removed"), int):
        plus = tag("span", f"+{about['added']}", class_="ins")
        lines = tag("span", plus, " ", tag("span", f"−{about['removed']}", class_="del"), class_="lines")
    listed = [
        tag("li", code(path), tag("small", " also touched by another patch") if path in shared else None)
        for path in files
    ]
    return tag(
        "li",
        tag("div", tag("strong", subject), " ", chip(state, _KIND[state]) if state else None, " ", lines),
        tag("div", code(name), class_="file") if about.get("subject") else None,
        more(plural(len(files), "file"), tag("ul", listed)) if len(files) > 3 else tag("ul", listed),
    )
