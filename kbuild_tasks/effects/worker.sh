# Enters build mode on a worker, if it is fit for it. Values used, numbers first (core/buildmode.py has the reasons):
#   lend         slots, or "auto": lend_percent of the cores; never more than per_job bytes of memory allow
#   tmpfs        auto | off;  tmpfs_slot: bytes of tmpfs a slot needs;  tmpfs_share: 1/n of the memory at most
#   lifetime     seconds after which the node leaves build mode by itself, should nobody release it
#   want_version want_machine want_binutils: the coordinator's compiler
#   port, k3s_stop (1: stop the k3s agent), peer_line ("$SSH_CONNECTION"), leave_script (text of leave.sh); enter.sh's
# Answers {"facts": ..., "refused": WORD or "", "detail": TEXT, "mode": ...}.

slots() {
	jobs=$lend
	[ "$jobs" != auto ] || jobs=$(((cores * lend_percent + 50) / 100))
	fits=$((available / per_job))
	[ "$jobs" -le "$fits" ] || jobs=$fits
}

equal() {
	[ "$version $machine $binutils" = "$want_version $want_machine $want_binutils" ]
}

fit() {
	if ! equal && [ "$cc" = gcc ] && [ "$machine" != "$want_machine" ] && served "$want_machine-gcc"; then
		# Another architecture, and it may have the coordinator's compiler as a cross compiler.
		ask_compiler "$want_machine-gcc"
		equal || ask_compiler gcc
	fi
	[ -n "$version" ] || refuse no-compiler
	equal || refuse other-compiler
	case $distccd in
	'') refuse no-distccd ;;
	[0-2].* | 3.[0-3] | 3.[0-3].*) refuse old-distccd ;;
	esac
	[ "$masquerade" = true ] || refuse no-masquerade
	[ "$systemd" = true ] || refuse no-systemd
	[ "$jobs" -gt 0 ] || refuse no-memory
}

listening() {  # listening: does anything accept connections on the port? (proc(5): net/tcp, state 0A)
	grep -q "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$port") [0-9A-F:]* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

unknown_services() {  # distccd that runs under another name than its packages give it: service names, in $foreign
	for process in /proc/[0-9]*; do
		read -r name 2>/dev/null <"$process/comm" || continue
		[ "$name" = distccd ] || continue
		while read -r line; do
			line=${line##*/}
			case " $foreign $unit " in
			*" $line "*) continue ;;
			esac
			case $line in
			*[!A-Za-z0-9@:._-]*) ;;
			*.service)
				# A transient unit is gone once it is stopped: nobody could start it again.
				[ -e "/run/systemd/transient/$line" ] || foreign="$foreign${foreign:+ }$line"
				;;
			esac
		done 2>/dev/null <"$process/cgroup"
	done
}

account() {  # the user that distccd runs as: $account (a systemd property), $uid, $access (mode of its directory)
	for user in distccd distcc; do
		uid=$(id -u "$user" 2>/dev/null) || continue
		account=User=$user access=0700
		return
	done
	account=DynamicUser=yes uid=65534 access=1777  # its number is not known before it runs
}

enters() {  # enters DIRECTORY: may distccd's user pass through it?
	setpriv --reuid "$uid" --regid 65534 --clear-groups -- test -x "$1"
}

owned() {  # owned DIRECTORY: can nobody but root put anything there in place of what we make?
	case $(stat -c '%u %A' -- "$1") in
	'0 '?????-??-? | '0 '?????????[tT]) return 0 ;;
	esac
	return 1
}

place() {  # where distccd's temporary files go: $mount, $size, $tmp, $disk_why (why not on a tmpfs)
	mount=no size=0 disk_why='' tmp=$workdir/distccd
	need=$((jobs * tmpfs_slot))
	through=$found
	if ours_mounted "$workdir"; then
		mount=yes size=$need
	elif [ "$tmpfs" = off ]; then
		disk_why=off
	elif [ "$fstype $target" = "tmpfs $real" ]; then
		size=$need  # a tmpfs of the user's own: used, left mounted
	elif [ "$need" -gt $((memory / tmpfs_share)) ] || [ "$need" -gt $((available / 2)) ]; then
		disk_why=memory
	else
		mount=yes size=$need
		[ "$found" != "$workdir" ] || through=${workdir%/*}/  # the tmpfs will lie over it
	fi
	if ! enters "$through"; then
		mount=no size=0 disk_why=access tmp=$state/distccd
	fi
	if [ "$mount" = no ]; then
		owned "$found" || tmp=$state/distccd
		# What lies there and is not in our record is somebody's.
		[ "$was_tmp" = "$tmp" ] || ! { [ -e "$tmp" ] || [ -L "$tmp" ]; } || refuse occupied "$tmp"
	fi
}

furnish() {  # the tmpfs, and in it a directory for distccd's user
	if [ ! -d "$workdir" ] && { [ "$mount" = yes ] || [ "$tmp" = "$workdir/distccd" ]; }; then
		mkdir -p -- "$workdir" || refuse workdir "$workdir"
	fi
	if [ "$mount" = yes ] && ! ours_mounted "$workdir"; then
		mount -t tmpfs -o "size=$size,mode=0755,nosuid,nodev" kbuild-tasks "$workdir" || {
			# What lies below was not looked at, for the tmpfs would have lain over it.
			mount=no size=0 disk_why=mount tmp=$state/distccd
			record
		}
	fi
	if [ "$access" = 0700 ]; then set -- -o "$uid"; else set --; fi
	install -d -m "$access" "$@" -- "$tmp" || refuse workdir "$tmp"
}

record() {  # what is going to be done to the node, before it is done
	restore=''
	[ "$was_boot" != "$boot_id" ] || restore=$was_restore
	for service in $foreign; do restore="$restore${restore:+ }$service"; done
	[ "$k3s_stop:$k3s" != 1:active ] || restore="$restore${restore:+ }k3s-agent.service"
	made=$missing_workdir
	[ "$made" -ge "$was_made" ] || made=$was_made
	remember "$record" "$boot_id" "$restore" "$mount" "$workdir" "$made" "$tmp"
	keep_leaver
}

clear_port() {
	if [ "$ours" != active ] && [ -z "$foreign" ]; then
		[ -z "$taken" ] || refuse port
		return
	fi
	for service in $foreign; do
		systemctl stop "$service" || refuse foreign "$service"
	done
	if [ "$ours" = active ]; then  # with other settings
		systemctl stop "$unit" || refuse start
	fi
	! listening || refuse port
}

confined() {  # confined COMMAND...: run it with what a job may do at most, as properties of a unit (systemd.exec(5))
	# Whoever sends a job runs commands here (gcc -wrapper): so what distccd starts sees programs and its own directory,
	# as /work, and no other file of the node; it may answer and cannot call: no connect(2), nor what sends without one.
	mkdir -p -- $run/empty $run/root
	memory=$((2 * jobs * per_job + size))
	[ "$memory" -le "$available" ] || memory=$available
	set -- -p NoNewPrivileges=yes -p CapabilityBoundingSet= -p UMask=0077 -p LimitCORE=0 "$@"
	set -- -p RootDirectory=$run/root -p ProtectSystem=strict -p MountAPIVFS=yes -p PrivateDevices=yes "$@"
	set -- -p "BindPaths=$tmp:/work" -p 'TemporaryFileSystem=/dev/shm:ro /dev/mqueue:ro' "$@"
	set -- -p 'BindReadOnlyPaths=/usr -/bin -/sbin -/lib -/lib32 -/lib64 -/libx32 -/opt' "$@"
	set -- -p 'BindReadOnlyPaths=-/etc/ld.so.cache -/etc/alternatives' "$@"
	set -- -p "BindReadOnlyPaths=$run/empty:/sys $run/empty:/run" "$@"
	set -- -p PrivateIPC=yes -p ProtectProc=invisible -p ProcSubset=pid "$@"
	set -- -p ProtectKernelModules=yes -p ProtectKernelLogs=yes -p ProtectClock=yes -p ProtectHostname=yes "$@"
	set -- -p RestrictNamespaces=yes -p RestrictRealtime=yes -p RestrictSUIDSGID=yes -p LockPersonality=yes "$@"
	set -- -p KeyringMode=private -p 'RestrictAddressFamilies=AF_INET AF_INET6' "$@"
	set -- -p SystemCallArchitectures=native -p SystemCallErrorNumber=EPERM -p SystemCallFilter=@system-service \
		-p 'SystemCallFilter=~connect sendto sendmsg sendmmsg io_uring_setup io_uring_enter io_uring_register' \
		-p 'SystemCallFilter=~@keyring @privileged kcmp pidfd_getfd process_madvise' "$@"
	# Where the kernel can (cgroup version 2): no packet but the coordinator's, no other port, and no other memory.
	set -- -p IPAddressDeny=any -p "IPAddressAllow=$peer" -p SocketBindDeny=any -p "SocketBindAllow=tcp:$port" "$@"
	set -- -p "MemoryMax=$memory" -p "TasksMax=$((16 + 16 * jobs))" -p OOMPolicy=continue "$@"
	systemd-run --quiet --collect "$@"
}

start() {  # a transient unit: systemd is its parent, knows its user, ends it at its time
	printf '[Service]\nType=oneshot\nExecStart=/bin/sh %s\n' $run/leave.sh >/run/systemd/system/kbuild-leave.service
	[ ! -f "$state/distccd.log" ] || mv -- "$state/distccd.log" "$state/distccd.log.1"
	confined --unit=$unit --description='distccd of kbuild-tasks' \
		-p "$account" -p "RuntimeMaxSec=$lifetime" -p OnFailure=kbuild-leave.service \
		-p "StandardOutput=append:$state/distccd.log" -p "StandardError=append:$state/distccd.log" \
		--setenv=TMPDIR=/work --setenv="PATH=$PATH" -- \
		distccd --no-detach --daemon --listen "$listen" --allow "$peer" --port "$port" --jobs "$jobs" \
		--log-stderr --log-level info </dev/null || refuse start
	tries=0
	while [ "$tries" -lt 60 ]; do
		if listening; then
			printf '%s\n' "$wanted" >$run/distccd
			return
		fi
		[ "$tries" -lt 10 ] && sleep 0.01 || sleep 0.05
		tries=$((tries + 1))
	done
	refuse start "$(tail -n 3 -- "$state/distccd.log" 2>/dev/null)"
}

running() {  # already so: our distccd runs with these settings, and less than half of its time is over
	[ "$ours" = active ] && [ -f $run/distccd ] && read -r line <$run/distccd && [ "$line" = "$wanted" ] &&
		[ -d "$tmp" ] && [ -z "$(find $run/distccd -mmin "+$((lifetime / 120))")" ]
}

[ "$lend" != 0 ] || refuse lends-nothing
begin
slots
fit
set -- $peer_line  # client address, client port, our address, our port (ssh(1) ENVIRONMENT)
[ $# -ge 3 ] || refuse peer
listen=$3
case $1 in
*:*) peer=$1/128 ;;
*) peer=$1/32 ;;
esac
account
place
wanted="$listen $peer $port $jobs $account $tmp"
taken=''
if [ "$ours" != active ] && [ -z "$foreign" ] && listening; then
	taken=yes
	unknown_services
fi
record
[ "$k3s_stop:$k3s" != 1:active ] || systemctl stop k3s-agent.service || refuse k3s
if ! running; then
	clear_port
	furnish
	start
fi
named
served "$full" || full=''
json=''
text cc "$cc"
text full "$full"
text listen "$listen"
text disk_why "$disk_why"
text stopped "$restore"
finish "$json\"jobs\": $jobs, \"tmpfs\": $size, \"port\": $port"
