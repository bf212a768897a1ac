# How the node is: kernel log, failed units, mounts, modules; what the kernel before left behind. Read by verify as a
# difference between a baseline of the old kernel and the same of the new one.

baseline() {
	raw kernel_errors "$(kernel_errors 0)"
	raw failed_units "$(failed_units)"
	# Mounts of containers come and go: only what the machine itself mounts counts.
	# Without an initramfs the kernel calls the root's device /dev/root.
	real=$(readlink -f -- "/sys/dev/block/$(mountpoint -d / 2>/dev/null)")
	raw mounts "$(awk -v real="/dev/${real##*/}" '$1 == "/dev/root" { $1 = real } $2 !~ "^(/run/|/var/lib/(kubelet|rancher|containerd|docker)/|/sys/|/proc/|/dev/)" {print $2 " " $3 " " $1}' \
		"$root/proc/self/mounts" | sort -u | array)"
	# The shell reads byte by byte, and numbers in /proc/sys answer the first byte alone.
	taint=$(cat -- "$root/proc/sys/kernel/tainted" 2>/dev/null)
	fits number "$taint" || taint=null
	raw taint "$taint"
	raw modules "$(loaded | array)"
	raw pstore "$(pstore_names | array)"
	truth synchronized
	raw synchronized "$truth"
	raw previous "{\"kernel_errors\": $(same_kernel_before && kernel_errors -1 || echo '[]')}"
}

loaded() {
	cut -d ' ' -f 1 -- "$root/proc/modules" 2>/dev/null | sort
}

# What cannot be told is null, never an empty list: that would be "no error". Equal lines count once, so that old noise
# pushes nothing out; a log with more is not cut to what may be its harmless end.
most_errors=2000

kernel_errors() {  # kernel_errors BOOT: lines of level err or worse as JSON, 0 of this boot, -1 of the one before; no times
	if [ -d "$root/run/systemd/journal" ]; then
		journalctl -k -b "$1" -p 3 -o cat --no-pager -q >"$scratch/errors" 2>/dev/null
	else
		[ "$1" = 0 ] && dmesg -l emerg,alert,crit,err -t >"$scratch/errors" 2>/dev/null
	fi || { echo null; return; }
	awk '!seen[$0]++' "$scratch/errors" >"$scratch/distinct"
	[ "$(wc -l <"$scratch/distinct")" -le "$most_errors" ] || { echo null; return; }
	array <"$scratch/distinct"
}

same_kernel_before() {  # did the boot before run the very kernel that runs? A failed trial's errors are no old noise
	local this
	[ -d "$root/run/systemd/journal" ] || return 1
	this=$(kernel_of 0)
	[ -n "$this" ] && [ "$this" = "$(kernel_of -1)" ]
}

kernel_of() {  # kernel_of BOOT: its version, and its build where its command line told one
	journalctl -k -b "$1" -o cat --no-pager -q 2>/dev/null |
		sed -n '/^Linux version /p; s/^\(Kernel c\|C\)ommand line: .*kbuild\.build=\([0-9a-f]*\).*/\2/p'
}

failed_units() {
	systemctl list-units --failed --plain --no-legend --full >"$scratch/units" 2>/dev/null || { echo null; return; }
	awk '{print $1}' "$scratch/units" | sort | array
}

pstore_files() {
	local folder
	for folder in "$root/sys/fs/pstore" "$root/var/lib/systemd/pstore"; do
		[ ! -d "$folder" ] || find "$folder" -type f 2>/dev/null
	done | sort | tail -n 20
}

pstore_names() {
	pstore_files | sed "s|^$root/||"
}

journal() {
	case $ask_boot in
	previous) which=-1 ;;
	current) which=0 ;;
	*) die protocol 'was asked for the journal of a boot that is neither previous nor current' ;;
	esac
	# A kernel that died before its log was written left no boot here: the release tells whose log this is.
	text release "$(journalctl -k -b "$which" -o cat --no-pager -q 2>/dev/null | sed -n 's/^Linux version \([^ ]*\).*/\1/p; /^Linux version/q')"
	raw lines "$(reasons "$which" | array)"
	raw pstore "{$(
		separator=''
		pstore_files | while IFS= read -r file; do
			quote "${file##*/}"
			name=$quoted
			quote "$(tail -c 2000 -- "$file" | tr '\n' ' ')"
			printf '%s%s: %s' "$separator" "$name" "$quoted"
			separator=', '
		done
	)}"
}

reasons() {  # reasons BOOT: the last kernel lines, those that tell of a death first
	journalctl -k -b "$1" -o cat --no-pager -q 2>/dev/null | tail -n 400 >"$scratch/log"
	[ -s "$scratch/log" ] || [ "$1" != 0 ] || dmesg -t 2>/dev/null | tail -n 400 >"$scratch/log"
	grep -E -i "$deaths" -- "$scratch/log" | tail -n 15
	tail -n 25 -- "$scratch/log"
}
deaths='kernel panic|not syncing|oops|BUG:|general protection|unable to (mount|handle)|soft lockup|hard lockup|hung_task|blocked for more|call trace|VFS: cannot|segfault|out of memory|I/O error'

built_in() {  # built_in MODULE: is it part of the running kernel? (depmod(8): modules.builtin; "-" is "_" to modprobe)
	local name
	name=$(printf %s "$1" | sed 's/[-_]/[-_]/g')
	grep -q "/$name\.ko\$" "$root/usr/lib/modules/$release_now/modules.builtin" 2>/dev/null
}

files_seen() {  # what the kernel sees in its release's directory, against what the build brought; null where that is not known
	local list
	list=$state/installed/$ask_build
	[ -n "$ask_build" ] && [ -s "$list" ] && grep "  usr/lib/modules/$release_now/" -- "$list" >"$scratch/files" || { echo null; return; }
	# A program that died without a word has not found all of them right.
	(cd -- "${root:-/}" && sha256sum -c --strict --quiet -- "$scratch/files" 2>/dev/null) >"$scratch/bad" || [ -s "$scratch/bad" ] || { echo null; return; }
	printf '{"count": %s, "wrong": %s}' "$(wc -l <"$scratch/files")" "$(sed 's/: FAILED.*//' "$scratch/bad" | head -n 50 | array)"
}

probe() {  # is it the right kernel, and do the modules load into it
	local failed module said sum builtin
	running
	text release "$release_now"
	text build_id "$build_id_now"
	build_running
	text build "$build_now"
	raw files "$(files_seen)"
	read -r uname_v <"$root/proc/sys/kernel/version" || uname_v=''
	text version "$uname_v"
	text boot_id "$boot_now"
	failed='' builtin=''
	for module in $ask_modules; do
		case $module in
		-*) die protocol 'was asked for a module whose name begins with a dash' ;;
		esac
		if [ -n "$ask_release" ] && [ "$ask_release" != "$release_now" ]; then
			said="not tried: $release_now runs"  # another kernel's modules say nothing
			quote "$said"
			failed="$failed${failed:+, }\"$module\": $quoted"
		elif ! said=$(modprobe -- "$module" 2>&1); then
			quote "$(printf %s "$said" | tail -n 1)"
			failed="$failed${failed:+, }\"$module\": $quoted"
		elif built_in "$module"; then
			builtin="$builtin$module "
		fi
	done
	raw failed "{$failed}"
	raw loaded "$(loaded | array)"
	words builtin "$builtin"
	sum=''
	if [ -f "$root/proc/config.gz" ]; then
		sum=$(gzip -dc <"$root/proc/config.gz" | sha256sum)
		sum=${sum%% *}
	fi
	text config_sha256 "$sum"
}
