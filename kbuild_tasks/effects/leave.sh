# Leaves build mode, by what $state/mode.json says was done to this node: whatever was running before runs after.
# Also kept on the node (/run/kbuild-tasks/leave.sh), where systemd runs it when distccd reached its time limit, so it
# needs nothing but a shell. Idempotent: without a record there is nothing to do.
# Values used: state; owner: whose build mode it is to leave; tree: 0 leaves the tmpfs at the workdir mounted, and moves
# its record to kept-OWNER.json: between two runs of the coordinator's, another project may use the node.

record=$state/mode.json
kept=$state/kept-$owner.json

recall() {  # recall [FILE]: the record into was_*; false: there is none. One key a line, written by remember().
	was_boot='' was_restore='' was_mount='' was_workdir='' was_made=0 was_tmp=''
	was_owner='' was_project='' was_node='' was_run='' was_since=''
	[ -f "${1:-$record}" ] || return 1
	while IFS='"' read -r _ key _ value _; do
		case $key in
		boot_id) was_boot=$value ;;
		restore) was_restore=$value ;;
		mount) was_mount=$value ;;
		workdir) was_workdir=$value ;;
		made) was_made=$value ;;
		tmp) was_tmp=$value ;;
		owner) was_owner=$value ;;
		project) was_project=$value ;;
		node) was_node=$value ;;
		run) was_run=$value ;;
		since) was_since=$value ;;
		esac
	done <"${1:-$record}"
}

remember() {  # remember FILE BOOT_ID RESTORE MOUNT WORKDIR MADE TMP: replace a record, whole or not at all
	# Not flushed to the disk (60 ms on a busy one): whatever it tells of is over when the power fails.
	file=$1
	shift
	{ [ -d "$state" ] || mkdir -p -- "$state"; } && {
		printf '{\n "boot_id": "%s",\n "restore": "%s",\n "mount": "%s",\n "workdir": "%s",\n "made": "%s",\n "tmp": "%s",\n' "$@" &&
			printf ' "owner": "%s",\n "project": "%s",\n "node": "%s",\n "run": "%s",\n "since": "%s"\n}\n' \
				"$was_owner" "$was_project" "$was_node" "$was_run" "$was_since"
	} >"$file.new" && mv -- "$file.new" "$file" ||
		die "cannot write $file	free some space in $state there"
}

same_boot() {  # same_boot: was what is recorded done since the node booted? Else nothing of it is there any more.
	read -r now </proc/sys/kernel/random/boot_id
	[ "$was_boot" = "$now" ]
}

foreign_record() {  # foreign_record: does the record tell of another project's build mode? (Old ones name nobody.)
	[ "${was_owner:-$owner}" != "$owner" ] && same_boot
}

real() {  # real DIRECTORY: $real, its path as the kernel knows it, without symbolic links
	real=$(cd -P -- "$1" 2>/dev/null && pwd -P) || real=$1
}

ours_mounted() {  # ours_mounted DIRECTORY: is a tmpfs of ours mounted there?
	real "$1"
	while read -r what where type rest; do
		[ "$what $where $type" = "kbuild-tasks $real tmpfs" ] && return 0
	done </proc/self/mounts
	return 1
}

users() {  # users DIRECTORY: " by sleep (pid 7), sh (pid 9)": who works in it or has a file of it open; proc(5)
	for pid in $(find /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd \
		\( -lname "$1" -o -lname "$1/*" \) -printf '%h\n' 2>/dev/null | cut -d/ -f3 | sort -un | head -n 5); do
		read -r comm 2>/dev/null <"/proc/$pid/comm" || continue
		by="${by:- by}${by:+,} $comm (pid $pid)"
	done
}

leave() {
	did='' wrong='' by=''
	leave_by "$record"
	[ "$tree" = 0 ] || leave_by "$kept"
	[ -z "$wrong" ] || die "$wrong"
	[ -f "$record" ] || rm -rf --one-file-system /run/kbuild-tasks /run/systemd/system/kbuild-leave.service
}

leave_by() {  # leave_by FILE: what this record tells of
	recall "$1" || return 0
	if [ "$1" = "$record" ] && systemctl --quiet is-active kbuild-distccd.service; then
		systemctl stop kbuild-distccd.service || die "cannot stop its distccd	see systemctl status kbuild-distccd there"
		did='distccd down'
	fi
	case $was_tmp in
	*/distccd) rm -rf -- "$was_tmp" ;;
	esac
	stays='' fault=''
	if [ "$was_mount" = yes ] && ours_mounted "$was_workdir"; then
		if [ "$tree" = 0 ]; then
			stays=yes
		elif umount -- "$was_workdir"; then
			did="${did}${did:+, }tmpfs unmounted"
		else
			users "$real"
			fault="cannot unmount $was_workdir: it is in use$by	end what works there, then: doit release"
			stays=yes
		fi
	fi
	if [ -z "$stays" ] && [ "$tree" != 0 ]; then  # directories that we made, if they are empty
		while [ "$was_made" -gt 0 ]; do
			rmdir -- "$was_workdir" 2>/dev/null || break
			was_workdir=${was_workdir%/*} was_made=$((was_made - 1))
		done
	fi
	# After a reboot systemd itself started what starts at boot, and the rest was not running.
	same_boot || was_restore=''
	back='' down=''
	for service in $was_restore; do  # also where the tmpfs is in use: k3s need not wait for that
		systemctl cat "$service" >/dev/null 2>&1 || continue  # removed meanwhile
		if systemctl start "$service"; then
			back="$back${back:+ }$service"
		else
			down="$down${down:+ }$service"
			fault="cannot start $service again	see systemctl status $service there, then: doit release"
		fi
	done
	[ -z "$back" ] || did="${did}${did:+, }$back back"
	if [ -n "$fault" ]; then
		wrong=$fault
		remember "$1" "$was_boot" "$down" "${stays:-no}" "$was_workdir" "$was_made" ''
		return
	fi
	[ -z "$stays" ] || remember "$kept" "$was_boot" '' yes "$was_workdir" "$was_made" ''
	rm -f -- "$1"
}
