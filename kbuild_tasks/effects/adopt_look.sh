# What another coordinator has. Runs there as the owner of the project (effects/adopt.py). Values used: there (the
# project's directory), workdir. Changes nothing. Answers base64 of receipts and records by name, "" where there is
# none: {"extract" ..., "manifest", "kept", "built": [{"name", "text"}], "bytes": of what the other questions send}.

show() {  # show KEY FILE
	printf '"%s": "' "$1"
	[ ! -f "$2" ] || base64 -w0 <"$2"
	printf '"'
}

printf '{'
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
	printf '%s{"name": "%s", ' "$comma" "$(printf %s "${record#"$workdir"/makepkg/}" | base64 -w0)"
	show text "$record"
	printf '}'
	comma=', '
done
trees=$(sed -n 's/^  *"tree": "\([0-9a-f]\{40\}\)".*/\1/p' "$there/build/receipts/extract.json" \
	"$there/build/receipts/patch.json" 2>/dev/null)
# shellcheck disable=SC2086 # two ids
bytes=$(GIT_DIR=$state/repo.git git rev-list --objects --disk-usage $trees 2>/dev/null) || bytes=0
for part in "$there/build/inputs" "$there/artifacts" "$state/sources" "$state/srcdir" "$state/kept"; do
	size=$(du -sk -- "$part" 2>/dev/null) && bytes=$((bytes + ${size%%[!0-9]*} * 1024))
done
printf '], "bytes": %s}\n' "$bytes"
