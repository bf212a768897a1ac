# What the node remembers of roll-outs: root's own directory, files that are replaced whole, a number that only grows.

state=$root/var/lib/kbuild-tasks/rollout
settings=$root/etc/kbuild-tasks

take_turn() {  # one helper changes things at a time
	[ -d "$state" ] || { (umask 022 && mkdir -p -- "${state%/*}") && mkdir -m 0700 -- "$state"; } || die state 'cannot make /var/lib/kbuild-tasks/rollout' 'is / writable?'
	[ ! -L "$state" ] && [ "$(stat -c '%u %a' -- "$state")" = '0 700' ] || die state 'has a state directory that is not root'"'"'s'
	exec 9>"$state/lock" || die state 'cannot write to /var/lib/kbuild-tasks/rollout' 'is / writable? df -h /var/lib'
	flock -w 30 9 || die busy 'is at work for another call of the helper' 'wait for it, then run doit again'
}

put_file() {  # put_file PATH: stdin becomes the file, whole or not at all, and durable
	cat >"$1.new" && same_mode "$1" && sync -- "$1.new" && mv -T -- "$1.new" "$1" && sync -- "${1%/*}" && return
	rm -f -- "$1.new"
	die state "cannot write $1" "is its disk full? df -h ${1%/*}"
}

same_mode() {  # same_mode PATH: PATH.new may be read by who may read PATH now; a boot partition may know no modes
	[ ! -f "$1" ] || chmod "$(stat -L -c %a -- "$1")" -- "$1.new" 2>/dev/null || :
}

remove_durably() {  # remove_durably FILE...
	rm -rf -- "$@" && sync -- "${1%/*}" || die state "cannot remove $1"
}

log_event() {  # log_event OUTCOME: a line in events.log; the log is never a reason to fail
	[ -d "$state" ] || return 0
	printf '%s\t%s\t%s\t%s\n' "$(date +%Y-%m-%dT%H:%M:%SZ)" "$verb" "${ask_fence:--}" "$1" >>"$state/events.log" || return 0
	[ "$verb" != lease ] || size_of "$state/events.log"
	[ "$verb" != lease ] || [ "$bytes" -lt 1000000 ] || mv -- "$state/events.log" "$state/events.log.1"
}

size_of() {  # size_of FILE: in $bytes; 0 where there is none
	bytes=$(stat -L -c %s -- "$1" 2>/dev/null) || bytes=0
}

free_at() {  # free_at DIRECTORY: bytes that are free on its filesystem, in $free
	{ read -r free && read -r free; } <<-END || free=0
	$(df -B1 --output=avail -- "$1" 2>/dev/null)
	END
}

stored_fence() {  # the highest number seen, in $stored; whose it is, since when, in $holder (base64), $since
	stored=0 holder='' since=0
	[ ! -f "$state/fence" ] || read -r stored <"$state/fence" || :
	fits number "$stored" || die state 'has a damaged record of who rolls out' "look at $state/fence"
	[ ! -f "$state/lease" ] || IFS=' ' read -r since holder <"$state/lease" || :
	fits number "$since" && fits base64 "$holder" || since=0 holder=''
}

refuse_stale() {
	local name
	name=$(printf %s "$holder" | base64 -d 2>/dev/null | tr -c '\040-\176' '?' | cut -c 1-200)
	die fence "is in another roll-out: ${name:-somebody} since $(date -d "@$since" '+%Y-%m-%d %H:%M UTC') (number $stored)" \
		'let it finish; if it is dead: doit takeover'
}

heed_fence() {  # a roll-out that was overtaken may not act
	stored_fence
	[ "$ask_fence" -ge "$stored" ] || refuse_stale
	[ "$ask_fence" -eq "$stored" ] || {
		printf '%s\n' "$ask_fence" | put_file "$state/fence" || exit 3
		rm -f -- "$state/lease"
	}
}

lease() {
	stored_fence
	[ "$ask_fence" -ge "$stored" ] || refuse_stale
	# A higher number alone takes nothing from another operator: who asked may have looked minutes ago.
	[ "$ask_force" = 1 ] || [ -z "$holder" ] || [ -z "$ask_who" ] || [ "$holder" = "$ask_who" ] || refuse_stale
	printf '%s\n' "$ask_fence" | put_file "$state/fence" || exit 3
	if [ -n "$ask_who" ]; then
		printf '%s %s\n' "$(date +%s)" "$ask_who" | put_file "$state/lease" || exit 3
	else
		remove_durably "$state/lease"
	fi
	raw fence "$ask_fence"
}

recall() {  # recall NAME: the record (known-good, previous, trial) into r_*; false: there is none, or it is damaged
	local key value
	r_release='' r_build_id='' r_build='' r_entry='' r_since=0 r_timeout=0
	[ -f "$state/$1" ] || return 1
	while IFS='=' read -r key value; do
		case $key in
		release) r_release=$value ;;
		build_id) r_build_id=$value ;;
		build) r_build=$value ;;
		entry) r_entry=$value ;;
		since) r_since=$value ;;
		timeout) r_timeout=$value ;;
		esac
	done <"$state/$1"
	fits release "$r_release" && [ -n "$r_entry" ] && fits number "$r_since" && fits number "$r_timeout" &&
		[ -n "$r_build_id" ]
}

remember() {  # remember NAME RELEASE BUILD_ID BUILD ENTRY [SINCE TIMEOUT]
	printf 'release=%s\nbuild_id=%s\nbuild=%s\nentry=%s\nsince=%s\ntimeout=%s\n' \
		"$2" "$3" "$4" "$5" "${6:-0}" "${7:-0}" | put_file "$state/$1" || exit 3
}

record_member() {  # record_member KEY NAME: the record as a JSON object, or null
	local record
	recall "$2" || {
		raw "$1" null
		return
	}
	quote "$r_release" && record="{\"release\": $quoted"
	quote "$r_build_id" && record="$record, \"build_id\": $quoted"
	quote "$r_build" && record="$record, \"build\": $quoted"
	quote "$r_entry" && raw "$1" "$record, \"entry\": $quoted, \"since\": $r_since}"
}

denied() {  # denied BUILD: why it is not tried here, in $denied_why; false: it may be
	local id
	denied_why=''
	[ -f "$state/deny" ] || return 1
	while IFS='	' read -r id denied_why || [ -n "$id" ]; do  # the last line may have been edited, and not ended
		[ "$id" != "$1" ] || return 0
	done <"$state/deny"
	return 1
}

deny_build() {
	local reason
	reason=$(printf %s "$ask_why" | base64 -d 2>/dev/null | tr -c '\040-\176' '?' | cut -c 1-500)
	{ grep -v "^$ask_build	" -- "$state/deny" 2>/dev/null; printf '%s\t%s\n' "$ask_build" "$reason"; } | put_file "$state/deny" || exit 3
	text denied "$ask_build"
}

allow_build() {
	{ grep -v "^$ask_build	" -- "$state/deny" 2>/dev/null || :; } | put_file "$state/deny" || exit 3
	text allowed "$ask_build"
}
