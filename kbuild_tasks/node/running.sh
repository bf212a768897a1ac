# Facts that the verbs decide with: the running kernel, the node's pacman, its initramfs tool.

boot_now=''

running() {  # $release_now, $build_id_now, $boot_now, $command_line
	local length name_size type
	[ -z "$boot_now" ] || return 0
	read -r release_now <"$root/proc/sys/kernel/osrelease" || die state 'cannot tell which kernel it runs'
	read -r boot_now <"$root/proc/sys/kernel/random/boot_id" || die state 'cannot tell its boot id'
	read -r command_line <"$root/proc/cmdline" || command_line=''
	# ELF notes, one after the other, as 32-bit words: two sizes, the type 3, the name "GNU", the build id.
	build_id_now=''
	# shellcheck disable=SC2046 # words
	set -- $(od -An -v -tx1 -- "$root/sys/kernel/notes" 2>/dev/null)
	while [ $# -gt 16 ]; do
		name_size=$(((0x$1 + 0x$2 * 256 + 3) / 4 * 4)) length=$((0x$5 + 0x$6 * 256)) type=$((0x$9))
		if [ "$type$1${13}${14}${15}${16}" = 304474e5500 ]; then
			shift 16
			while [ "$length" -gt 0 ] && [ $# -gt 0 ]; do
				build_id_now=$build_id_now$1 length=$((length - 1))
				shift
			done
			return
		fi
		length=$((12 + name_size + (length + 3) / 4 * 4))
		[ "$length" -le $# ] || return 0
		shift "$length"
	done
}

kernel_arch() {
	local machine
	machine=$(uname -m)
	case $machine in
	armv7*) machine=armv7h ;;
	esac
	printf '%s\n' "$machine"
}

# pacman

database=$root/var/lib/pacman

pacman_() {  # pacman, without our lock and without a terminal; in tests on a root of its own
	if [ -n "$root" ]; then
		set -- --root "$root/" --dbpath "$database/" --config "$root/etc/pacman.conf" --hookdir "$root/etc/pacman.d/hooks" \
			--logfile "$root/var/log/pacman.log" --gpgdir "$root/etc/pacman.d/gnupg" --cachedir "$root/var/cache/pacman/pkg/" "$@"
	fi
	pacman "$@" </dev/null 3>&- 9>&-
}

lock_state() {  # "": no lock; held: by a process that has it open; stale: by none (pacman keeps it open while it works)
	local real
	[ -e "$database/db.lck" ] || {
		lock=''
		return
	}
	real=$(readlink -f -- "$database")/db.lck
	lock=stale
	[ -z "$(find /proc/[0-9]*/fd -lname "$real" -print 2>/dev/null | head -n 1)" ] || lock=held
}

has_line() {  # has_line LINE FILE: without a process; a database has hundreds of entries
	local line
	while IFS= read -r line; do
		[ "$line" != "$1" ] || return 0
	done <"$2"
	return 1
}

broken_entries() {  # names of entries in the local database that lack a part, one a line
	local entry
	for entry in "$database"/local/*/; do
		[ -d "$entry" ] || continue
		entry=${entry%/}
		# A package without files has an empty list; one that has a size has files.
		if [ -s "$entry/desc" ] && [ -e "$entry/files" ]; then
			[ -s "$entry/files" ] || has_line %SIZE% "$entry/desc" || continue
			[ ! -s "$entry/files" ] || continue
		fi
		printf '%s\n' "${entry##*/}"
	done
}

installed_version() {  # installed_version PACKAGE: what the database says, in $installed; "" where it is not there
	local entry full rest
	installed=''
	for entry in "$database/local/$1"-*; do
		[ -d "$entry" ] || continue
		full=${entry##*/}
		rest=${full#"$1"-}
		case $rest in
		*-*-*) continue ;;  # another package, whose name begins with this one
		*-*) installed=$rest ;;
		esac
	done
}

ours_installed() {  # packages that a build of ours brought: members of a JSON object, in $members
	local list package
	members=''
	for list in "$state"/packages/*; do
		[ -f "$list" ] || continue
		while read -r package; do
			fits name "$package" || continue
			case $members in
			*"\"$package\""*) continue ;;
			esac
			installed_version "$package"
			[ -n "$installed" ] || continue
			quote "$installed"
			members="$members${members:+, }\"$package\": $quoted"
		done <"$list"
	done
}

initramfs_tool() {
	local tool
	for tool in mkinitcpio dracut; do
		command -v "$tool" >/dev/null && echo "$tool" && return
	done
	if command -v mkinitramfs >/dev/null; then echo initramfs-tools; else echo none; fi
}

k3s_unit() {  # "k3s", "k3s-agent" or "", in $unit; its state, in $unit_state
	local name key value
	unit='' unit_state=''
	for name in "$root/etc" "$root/usr/lib" "$root/lib" "$root/usr/local/lib" "$root/run"; do
		[ ! -e "$name/systemd/system/k3s.service" ] && [ ! -e "$name/systemd/system/k3s-agent.service" ] || unit=there
	done
	[ -n "$unit" ] || return 0
	unit=''
	while IFS='=' read -r key value; do
		case $key:$value in
		Id:*) name=${value%.service} ;;
		LoadState:loaded) unit=$name ;;
		ActiveState:*) [ "$unit" != "$name" ] || unit_state=$value ;;
		esac
	done <<-END
	$(systemctl show -p Id -p LoadState -p ActiveState -- k3s.service k3s-agent.service 2>/dev/null)
	END
}

k3s() {
	case $ask_action in
	stop | start) ;;
	*) die protocol 'was asked for k3s with an action that is neither stop nor start' ;;
	esac
	k3s_unit
	if [ -n "$unit" ]; then
		systemctl "$ask_action" "$unit.service" || die k3s "cannot $ask_action $unit" "systemctl status $unit there"
		k3s_unit
	fi
	text unit "$unit"
	text state "$unit_state"
}

synchronized() {
	[ ! -e "$root/run/systemd/timesync/synchronized" ] || return 0
	[ ! -d "$root/run/systemd/timesync" ] || return 1
	# Asking timedatectl starts a service; where nobody sets the clock the answer is known.
	[ -d "$root/run/chrony" ] || [ -d "$root/run/ntpsec" ] || [ -e "$root/run/ntpd.pid" ] || [ -d "$root/run/openntpd" ] || return 1
	case $(timedatectl show -p NTPSynchronized --value 2>/dev/null) in
	yes) return 0 ;;
	esac
	command -v chronyc >/dev/null && chronyc -n tracking 2>/dev/null | grep -q '^Leap status *: Normal'
}
