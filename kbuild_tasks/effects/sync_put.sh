# Makes a set whole or not at all: copied from the current one (hard links), less what changed, plus what came on
# stdin; its listing must hash to its name before it is renamed into place. Values used: state, id, base (a set or
# ""), drop_bytes. Payload: drop_bytes of "PATH<NUL>", then a tar of the new files. Answers {"put": ID}, or {"put": ""}
# where that is the current set, and whole; the payload is left unread then.

listing() {
	(cd -- "$1" && find . -type f -printf '%P\0' | sort -z | xargs -0r sha256sum -z --)
}

fail() {  # fail WHAT: nothing stays of the attempt; a full disk is told as one
	reason=$(cat "$errors" 2>/dev/null)
	printf '%s\n' "$reason" >&2
	rm -rf -- "$stage" "$drop" "$errors"
	case $reason in
	*'No space left'* | *'quota exceeded'* | *'Wrote only'*)  # the last is tar's word for a write cut short
		die "has no space left in $state; nothing was changed there	free some space: df -h $state" ;;
	esac
	die "$1; nothing was changed there	run doit again, or look at $state there"
}

alone 60
sync=$state/sync
stage=$sync/.new drop=$sync/.drop errors=/run/kbuild-sync.$$
before=$(readlink "$sync/current") || before=''
if [ "$before" = "$id" ] && [ -z "$(find "$sync/$id" ! -type f ! -type d -print -quit 2>/dev/null)" ]; then
	found=$(listing "$sync/$id" 2>/dev/null | sha256sum)
	if [ "${found%% *}" = "$id" ]; then
		printf '{"put": ""}\n'
		exit 0
	fi
fi
mkdir -p -- "$sync" 2>"$errors" || fail "cannot make $sync"
rm -rf -- "$stage"
if [ -n "$base" ] && [ -d "$sync/$base" ]; then
	cp -al -- "$sync/$base" "$stage" 2>"$errors" || fail "cannot copy the set it has"
else
	mkdir -- "$stage" 2>"$errors" || fail "cannot make $stage"
fi
if [ "$drop_bytes" -gt 0 ]; then
	head -c "$drop_bytes" >"$drop" 2>"$errors" || fail "cannot write to $sync"
	(cd -- "$stage" && xargs -0r rm -f --) <"$drop" 2>"$errors" || fail "cannot remove old files"
fi
tar -x -f - -C "$stage" --no-same-owner 2>"$errors" || fail "cannot unpack the set"
[ "$drop_bytes" = 0 ] || find "$stage" -mindepth 1 -type d -empty -delete 2>"$errors" ||
	fail "cannot remove empty directories"
found=$(listing "$stage" 2>"$errors" | sha256sum)
[ "${found%% *}" = "$id" ] || fail "did not get the set whole"
find "$stage" -print0 | xargs -0r sync -- 2>"$errors" || fail "cannot write the set to its disk"

[ ! -e "$sync/$id" ] || rm -rf -- "${sync:?}/$id" 2>"$errors" || fail "cannot replace a set that was changed by hand"
mv -T -- "$stage" "$sync/$id" 2>"$errors" || fail "cannot rename the set into place"
[ -L "$sync/current" ] || rm -rf -- "$sync/current" 2>"$errors" || fail "cannot replace $sync/current"
ln -sfn -- "$id" "$sync/.current" 2>"$errors" && mv -T -- "$sync/.current" "$sync/current" 2>"$errors" ||
	fail "cannot point to the new set"
sync -- "$sync" 2>"$errors" || fail "cannot write $sync to its disk"
for old in "$sync"/*; do
	case ${old##*/} in
	current | "$id" | "$before") ;;
	*) rm -rf -- "$old" ;;
	esac
done
rm -f -- "$drop" "$errors"
printf '{"put": "%s"}\n' "$id"
