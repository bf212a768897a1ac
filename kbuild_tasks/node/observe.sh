# observe: all that the coordinator decides with, in one answer. Changes nothing. It is asked of every node again and
# again, so it starts few processes: on a slow node each takes a twentieth of a second.

observe() {
	running
	loader_find
	text boot_id "$boot_now"
	text release "$release_now"
	read -r uname_v <"$root/proc/sys/kernel/version" || uname_v=''
	text version "$uname_v"
	text build_id "$build_id_now"
	build_running
	text build "$build_now"
	read -r up _ <"$root/proc/uptime" || up=0
	raw uptime "$up"
	text arch "$(kernel_arch)"
	text cmdline "$command_line"
	machine=''
	[ ! -f "$root/etc/machine-id" ] || read -r machine <"$root/etc/machine-id" || :
	text machine_id "$machine"
	{ read -r _ && read -r free_state && read -r free_modules && read -r free_boot; } <<-END || free_state=0 free_modules=0 free_boot=0
	$(df -B1 --output=avail -- "$root/var/lib" "$root/usr/lib" "${boot_dir:-/}" 2>/dev/null)
	END
	loader_json
	lock_state
	truth test "$lock" = held
	held=$truth
	truth test "$lock" = stale
	ours_installed
	list=$(broken_entries)
	[ -z "$list" ] || list=$(printf '%s\n' "$list" | array)
	raw pacman "{\"lock\": $held, \"stale\": $truth, \"broken\": ${list:-[]}, \"installed\": {$members}}"
	text initramfs "$(initramfs_tool)"
	raw disk_free "$free_state"
	raw modules_free "$free_modules"
	damaged_records
	record_member known_good known-good
	record_member previous previous
	record_member trial trial
	words damaged "$damaged"
	raw deny "$(deny_json)"
	raw staged "{$(staged_json)}"
	list=''
	for name in $(builds_there); do
		case " $list " in
		*" $name "*) ;;
		*) list="$list $name" ;;
		esac
	done
	words builds "$list"
	stored_fence
	raw fence "$stored"
	raw lease "$(lease_json)"
	text helper "$version"
	k3s_unit
	quote "$unit"
	unit_json=$quoted
	quote "$unit_state"
	raw k3s "{\"unit\": $unit_json, \"state\": $quoted}"
	truth synchronized
	raw synchronized "$truth"
	raw time "$(date +%s)"
	truth test -f "$state/deadman"
	raw deadman "$truth"
}

damaged_records() {  # records that are there and cannot be read, in $damaged
	damaged=''
	for name in known-good previous trial; do
		[ ! -f "$state/$name" ] || recall "$name" || damaged="$damaged $name"
	done
}

deny_json() {
	printf '['
	if [ -f "$state/deny" ]; then
		first=1
		while IFS='	' read -r id reason || [ -n "$id" ]; do
			fits build "$id" || continue
			[ -n "$first" ] || printf ', '
			quote "$reason"
			printf '{"build": "%s", "why": %s}' "$id" "$quoted"
			first=''
		done <"$state/deny"
	fi
	printf ']'
}

lease_json() {
	[ -n "$holder" ] || {
		printf null
		return
	}
	quote "$(printf %s "$holder" | base64 -d 2>/dev/null)"
	printf '{"who": %s, "since": %s}' "$quoted" "$since"
}

staged_json() {  # members: "<build>": {"NAME": bytes}
	first=1 sizes=$(stat -L -c '%s %n' -- "$state"/stage/*/* 2>/dev/null)
	for folder in "$state"/stage/*/; do
		[ -d "$folder" ] || continue
		folder=${folder%/}
		[ -n "$first" ] || printf ', '
		first='' separator=''
		printf '"%s": {' "${folder##*/}"
		while read -r bytes file; do
			case $file in
			"$folder"/*) ;;
			*) continue ;;
			esac
			quote "${file##*/}"
			printf '%s%s: %s' "$separator" "$quoted" "$bytes"
			separator=', '
		done <<-END
		$sizes
		END
		printf '}'
	done
}
