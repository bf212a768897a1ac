# check: everything that can be refused is refused here, before anything of the node is touched.

check() {
	load_build "$ask_build"
	load_packages
	check_signatures
	fit_for
	raw ok true
	text release "$release"
	text build_id "$build_id"
	words packages "$packages"
	raw signed "$signed"
}

fit_for() {  # is this node fit for the build that was loaded?
	local file
	running
	! denied "$ask_build" || die denied "does not try the build $ask_build again: $denied_why" "doit allow, or build another kernel"
	for file in $packages; do
		package_field "$file" Architecture
		case $field in
		any | "$(kernel_arch)") ;;
		*) die arch "is $(kernel_arch), and $file is for $field" 'kernel.arch in cluster.yaml' ;;
		esac
	done
	loader_needed
	[ -n "$default_entry" ] || die default 'has no boot entry that is the default' 'set one, then run doit deploy again'
	[ "$loader" != systemd_boot ] || systemd_boot_plain
	[ -f "$state/known-good" ] || default_runs
	units_enabled
	release_free
	pacman_fit
	boot_fit
	room_for
}

default_runs() {  # what becomes the known-good kernel is what runs and what is booted by default: one and the same
	[ -z "$selected_entry" ] || [ "$selected_entry" = "$default_entry" ] ||
		die default "runs the boot entry $selected_entry and has $default_entry as its default" \
			'reboot it, or make the default what runs; then run doit deploy again'
	[ -d "$root/usr/lib/modules/$release_now" ] || [ ! -s "$root/proc/modules" ] ||
		die default "runs $release_now, whose modules are gone: its kernel was upgraded since it booted" \
			'reboot it, then run doit deploy again'
}

units_enabled() {  # what a trial relies on at boot: its own modules, and the dead man
	local unit
	[ -d "$root/etc/systemd/system" ] || return 0
	for unit in kbuild-modules.service kbuild-deadman.service; do
		[ -e "$root/etc/systemd/system/sysinit.target.wants/$unit" ] ||
			die units "has not enabled $unit, which a trial needs at boot" 'docs/rollout.md, Who may act: the script of the set-up enables it'
	done
}

release_free() {  # the release's directory is ours, or nobody's
	local file owner entry directory our_names
	directory=$root/usr/lib/modules/$release
	[ -d "$directory" ] || return 0
	for file in $packages; do
		package_name "$file"
		our_names="${our_names:-} $package"
	done
	if command -v dpkg-query >/dev/null && [ -z "$root" ]; then
		owner=$(dpkg-query -S "$directory/kernel" "/lib/modules/$release/kernel" 2>/dev/null | head -n 1)
		[ -z "$owner" ] || die release-taken "has another kernel $release, of dpkg's ${owner%%:*}" \
			'give the kernel a release of its own: CONFIG_LOCALVERSION'
	fi
	for entry in "$database"/local/*/files; do
		[ -f "$entry" ] || continue
		grep -q "^usr/lib/modules/$release/vmlinuz\$" "$entry" || continue
		owner=${entry%/files} owner=${owner##*/} owner=${owner%-*-*}
		case " $our_names " in
		*" $owner "*) ;;
		*) die release-taken "has another kernel $release, of the package $owner" \
			'give the kernel a release of its own: CONFIG_LOCALVERSION or pkgrel' ;;
		esac
	done
}

pacman_fit() {
	local others entry
	command -v pacman >/dev/null || die pacman 'has no pacman' 'install it there'
	lock_state
	[ "$lock" != held ] || die pacman-lock 'runs pacman at this moment' 'wait for it, then run doit deploy again'
	others=''
	for entry in $(broken_entries); do
		broken_is_ours "$entry" || others="$others $entry"
	done
	[ -z "$others" ] || die pacman-broken "has broken entries in pacman's database:$others" \
		'reinstall those packages there: pacman -S --overwrite "*" NAME'
}

broken_is_ours() {  # broken_is_ours NAME-VERSION-REL: does it belong to one of the packages at hand?
	local file
	for file in $packages; do
		package_name "$file"
		[ "${1%-*-*}" != "$package" ] || return 0
	done
	return 1
}

boot_fit() {
	[ -d "$boot_dir" ] || die boot-readonly "has no boot directory $boot_dir" 'is it mounted? findmnt there'
	[ -w "$boot_dir" ] || die boot-readonly "cannot write to $boot_dir: it is mounted read-only" "mount -o remount,rw $boot_dir there; dmesg says why"
	"${loader}_writable" || die nvram "$loader_why" 'free EFI variables: rm /sys/fs/pstore/*, or a newer firmware'
}

room_for() {  # on the boot partition and for the modules
	local file total
	total=0
	for file in $packages; do
		installed_bytes "$file"
		total=$((total + bytes))
	done
	free_at "$root/usr/lib"
	need=$((total + total / 20 + reserve))
	[ "$free" -ge "$need" ] ||
		die space-root "has $((free / 1048576)) MiB free in /usr/lib/modules and needs $((need / 1048576))" 'remove what is not needed: df -h /usr'
	boot_need
	free_at "$boot_dir"
	[ "$free" -ge "$need" ] ||
		die space-boot "has $((free / 1048576)) MiB free in $boot_dir and needs $(((need + 1048575) / 1048576))" "remove old kernels there: ls $boot_dir"
}

boot_need() {  # bytes that the new boot files and, if one is made, the copy of the default's take, in $need
	local file most
	need=2097152
	if [ ! -s "$boot_dir/kbuild/$ask_build/vmlinuz" ]; then
		kernel_bytes
		need=$((need + bytes))
	fi
	if [ ! -s "$boot_dir/kbuild/$ask_build/initrd.img" ] && [ "$(initramfs_tool)" != none ]; then
		most=0
		entry_known "$default_entry"
		for file in $e_initrds; do
			size_of "$file"
			[ "$bytes" -le "$most" ] || most=$bytes
		done
		need=$((need + most + most / 4))
	fi
	if may_be_overwritten "$default_entry"; then
		for file in $e_kernel $e_initrds; do
			size_of "$file"
			need=$((need + bytes))
		done
	fi
}

kernel_bytes() {  # of the new kernel's image, in $bytes: from the package if it can be opened, else as the present one
	bytes=''
	if command -v bsdtar >/dev/null; then
		bytes=$(bsdtar -xOf "$folder/$kernel_package" .MTREE 2>/dev/null | gzip -dc 2>/dev/null |
			sed -n '/\/vmlinuz /s/.* size=\([0-9]*\).*/\1/p' | head -n 1)
	fi
	[ -n "$bytes" ] && return
	entry_known "$default_entry"
	size_of "$e_kernel"
	[ "$bytes" -gt 0 ] || bytes=16777216
	bytes=$((bytes + bytes / 4))
}
