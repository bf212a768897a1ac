# What another coordinator has. Runs there as the owner of the project (effects/adopt.py). Values used: there (the
# project's directory), workdir. Changes nothing. Answers base64 of receipts and records by name, "" where there is
# none: {"extract" ..., "manifest", "kept", "root": the project's directory without links, "built": [{"name", "text"}],
# "sizes": [{"name", "kib"}] of what is sent or not, "bytes": of the rest that the other questions send}.

show() {  # show KEY FILE
	printf '"%s": "' "$1"
	[ ! -f "$2" ] || base64 -w0 <"$2"
	printf '"'
}

word() {  # word TEXT
	printf '"%s"' "$(printf %s "$1" | base64 -w0)"
}

printf '{"root": %s, ' "$(word "$there")"
for stage in extract patch configure compile package; do
	show "$stage" "$there/build/receipts/$stage.json"
	printf ', '
done
show manifest "$there/artifacts/manifest.json"
printf ', '
show kept "$state/kept/kept.json"
printf ', "built": ['
comma=''
for record in "$workdir"/makepkg/*/.*.built; do
	[ -f "$record" ] || continue
	printf '%s{"name": %s, ' "$comma" "$(word "${record#"$workdir"/makepkg/}")"
	show text "$record"
	printf '}'
	comma=', '
done
trees=$(sed -n 's/^  *"tree": "\([0-9a-f]\{40\}\)".*/\1/p' "$there/build/receipts/extract.json" \
	"$there/build/receipts/patch.json" 2>/dev/null)
# shellcheck disable=SC2086 # two ids
bytes=$(GIT_DIR=$state/repo.git git rev-list --objects --disk-usage $trees 2>/dev/null) || bytes=0
for part in "$there/build/inputs" "$there/artifacts" "$state/pristine"; do
	size=$(du -sk -- "$part" 2>/dev/null) && bytes=$((bytes + ${size%%[!0-9]*} * 1024))
done
printf '], "bytes": %s, "sizes": [' "$bytes"
comma=''
for part in "$state"/sources/* "$state"/srcdir/* "$state/kept" "$workdir"/makepkg/*/src/*; do
	case $part in
	"$workdir"/makepkg/*) [ -f "${part%/src/*}/.${part##*/}.built" ] || continue ;;  # with its source: some is left over
	"$state"/sources/*) [ -f "$part" ] || continue ;;  # a mirror of a repository is not sent
	esac
	size=$(du -sk -- "$part" 2>/dev/null) || continue
	part=${part#"$state"/}
	printf '%s{"name": %s, "kib": %s}' "$comma" "$(word "${part#"$workdir"/makepkg/}")" "${size%%[!0-9]*}"
	comma=', '
done
printf ']}\n'
