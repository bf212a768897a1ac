# Leaves build mode, by what $state/mode.json says was done to this node: whatever was running before runs after.
# Also kept on the node (/run/kbuild-tasks/leave.sh), where systemd runs it when distccd reached its time limit, so it
# needs nothing but a shell. Idempotent: without a record there is nothing to do.
# Values used: state; tree: 0 leaves the tmpfs at the workdir mounted (the coordinator's, between runs).

record=$state/mode.json

recall() {  # the record into was_*; false: there is none. One key a line, written by remember().
	was_boot='' was_restore='' was_mount='' was_workdir='' was_made=0 was_tmp=''
	[ -f "$record" ] || return 1
	while IFS='"' read -r _ key _ value _; do
		case $key in
		boot_id) was_boot=$value ;;
		restore) was_restore=$value ;;
		mount) was_mount=$value ;;
		workdir) was_workdir=$value ;;
		made) was_made=$value ;;
		tmp) was_tmp=$value ;;
		esac
	done <"$record"
}

remember() {  # remember BOOT_ID RESTORE MOUNT WORKDIR MADE TMP: replace the record, whole or not at all
	# Not flushed to the disk (60 ms on a busy one): whatever it tells of is over when the power fails.
	mkdir -p -- "$state" &&
		printf '{\n "boot_id": "%s",\n "restore": "%s",\n "mount": "%s",\n "workdir": "%s",\n "made": "%s",\n "tmp": "%s"\n}\n' \
			"$@" >"$record.new" && mv -- "$record.new" "$record" ||
		die "cannot write $record	free some space in $state there"
}

ours_mounted() {  # ours_mounted DIRECTORY: is a tmpfs of ours mounted there?
	while read -r what where type rest; do
		[ "$what $where $type" = "kbuild-tasks $1 tmpfs" ] && return 0
	done </proc/self/mounts
	return 1
}

leave() {
	did=''
	recall || return 0
	if systemctl --quiet is-active kbuild-distccd.service; then
		systemctl stop kbuild-distccd.service || die "cannot stop its distccd	see systemctl status kbuild-distccd there"
		did='distccd down'
	fi
	case $was_tmp in
	*/distccd) rm -rf -- "$was_tmp" ;;
	esac
	kept=''
	if [ "$was_mount" = yes ] && ours_mounted "$was_workdir"; then
		if [ "$tree" = 0 ]; then
			kept=yes
		else
			umount -- "$was_workdir" ||
				die "cannot unmount $was_workdir: it is in use	end what works there (fuser -vm $was_workdir), then: doit release"
			did="${did}${did:+, }tmpfs unmounted"
		fi
	fi
	if [ "$tree" != 0 ]; then  # directories that we made, if they are empty
		while [ "$was_made" -gt 0 ]; do
			rmdir -- "$was_workdir" 2>/dev/null || break
			was_workdir=${was_workdir%/*} was_made=$((was_made - 1))
		done
	fi
	if [ -n "$was_restore" ] && [ "$was_boot" = "$(cat /proc/sys/kernel/random/boot_id)" ]; then
		# After a reboot systemd itself started what starts at boot, and the rest was not running.
		for service in $was_restore; do
			systemctl cat "$service" >/dev/null 2>&1 || continue  # removed meanwhile
			systemctl start "$service" || die "cannot start $service again	see systemctl status $service there"
		done
		did="${did}${did:+, }$was_restore back"
	fi
	rm -rf /run/kbuild-tasks /run/systemd/system/kbuild-leave.service
	if [ -n "$kept" ]; then
		remember "$was_boot" '' yes "$was_workdir" "$was_made" ''
	else
		rm -f -- "$record"
	fi
}
