# The initramfs of the new kernel: whether it needs one, and making it with the tool that the node has, beside its place.
# A tool's exit status is not believed: what it made must be readable and hold the modules that the root disk needs.

root_chain() {  # what lies between the CPU and the root filesystem: lines of a module's or driver's name and a modalias
	local device alias
	findmnt -n -o FSTYPE --target "$root/" 2>/dev/null | head -n 1
	device=$(findmnt -n -v -o SOURCE --target "$root/" 2>/dev/null | head -n 1)
	[ "$device" != /dev/root ] || device=$(readlink -f -- "/sys/dev/block/$(mountpoint -d / 2>/dev/null)")
	device=$(readlink -f -- "/sys/class/block/${device##*/}" 2>/dev/null) || return 0
	while [ -n "$device" ] && [ "$device" != /sys ] && [ "$device" != / ]; do
		alias=''
		[ ! -r "$device/modalias" ] || read -r alias <"$device/modalias" || :
		if [ -e "$device/driver/module" ]; then
			printf '%s\t%s\n' "$(basename -- "$(readlink -f -- "$device/driver/module")")" "$alias"
		elif [ -e "$device/driver" ]; then
			printf '%s\t%s\n' "$(basename -- "$(readlink -f -- "$device/driver")")" "$alias"
		fi
		device=${device%/*}
	done
}

among_modules() {  # names and modaliases on stdin: "need NAME" where it is a module of the new kernel, "ask MODALIAS" where it knows no such name
	awk -F '\t' -v builtin="$scratch/builtin" -v dep="$scratch/dep" '
		function plain(path) { sub(/:.*/, "", path); sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
		BEGIN {
			while ((getline line <builtin) > 0) inside[plain(line)] = 1
			while ((getline line <dep) > 0) module[plain(line)] = 1
		}
		{
			name = $1; gsub(/-/, "_", name)
			if (name in inside) next
			if (name in module) print "need " name
			else if ($2 != "") print "ask " $2
		}
	'
}

look_at_root() {  # $root_modules: modules that are needed before / can be mounted; $initrd_why: why one is needed, or ""
	local word what name
	under "$release" cat -- "$modules/$release/modules.builtin" >"$scratch/builtin" 2>/dev/null
	under "$release" cat -- "$modules/$release/modules.dep" >"$scratch/dep" 2>/dev/null
	root_modules='' initrd_why=''
	root_chain | among_modules | sort -u >"$scratch/root"
	while read -r what name; do
		case $what in
		need) root_modules="$root_modules${root_modules:+ }$name" ;;
		ask)
			# The driver may have another name in the new kernel: its aliases tell.
			for name in $(under "$release" modprobe ${root:+-d "$root"} -S "$release" -R -- "$name" 2>/dev/null | among_modules | sed -n 's/^need //p'); do
				root_modules="$root_modules${root_modules:+ }$name"
			done ;;
		esac
	done <"$scratch/root"
	initrd_why=$root_modules
	case $(findmnt -n -v -o SOURCE --target "$root/" 2>/dev/null | head -n 1) in
	/dev/mapper/* | /dev/dm-* | /dev/md*) initrd_why="${initrd_why:+$initrd_why, }root on a mapped device" ;;
	esac
	if [ -z "$root" ] && mountpoint -q /usr; then initrd_why="${initrd_why:+$initrd_why, }/usr on its own"; fi
	for word in $command_line; do
		case $word in
		root=UUID=* | root=LABEL=*) [ -n "$(root_partuuid)" ] || initrd_why="${initrd_why:+$initrd_why, }$word" ;;
		root=ZFS=* | zfs=* | cryptdevice=* | rd.luks.* | rd.lvm.* | rd.md.*) initrd_why="${initrd_why:+$initrd_why, }$word" ;;
		esac
	done
}

root_partuuid() {  # PARTUUID of the partition that / is on, or nothing
	findmnt -n -v -o PARTUUID --target "$root/" 2>/dev/null | grep -x '[0-9A-Fa-f-]*' | head -n 1
}

make_initramfs() {  # make_initramfs FILE: $initramfs says what was done: made, none, kept
	look_at_root
	if [ -z "$initrd_why" ]; then
		initramfs=none
		return
	fi
	tool=$(initramfs_tool)
	[ "$tool" != none ] || die initramfs "needs an initramfs for this kernel ($initrd_why) and has no tool that makes one" \
		'build those drivers in, or install mkinitcpio, dracut or initramfs-tools there'
	rm -f -- "$1"
	case $tool in
	mkinitcpio) under "$release" mkinitcpio -k "$release" -g "$1" ;;
	dracut) under "$release" dracut --force --kver "$release" "$1" ;;
	initramfs-tools) make_debian "$1" ;;
	esac >"$state/initramfs.out" 2>&1 </dev/null 3>&- 9>&-
	tool_status=$?
	check_initramfs "$1"
	initramfs=made
}

make_debian() {  # make_debian FILE: mkinitramfs with a list of modules instead of a look through all of /sys (minutes)
	local config borrowed result
	cp -a -- "$root/etc/initramfs-tools" "$scratch/initramfs-tools" || return 1
	sed -i 's/^MODULES=.*/MODULES=list/' "$scratch/initramfs-tools/initramfs.conf"
	rm -f -- "$scratch/initramfs-tools/conf.d/driver-policy"
	# shellcheck disable=SC2086 # a list of words
	printf '%s\n' $root_modules >>"$scratch/initramfs-tools/modules"
	config=$root/boot/config-$release
	borrowed=''
	if [ ! -e "$config" ]; then  # it asks there which compressions the kernel can undo
		under "$release" cat -- "$modules/$release/config" >"$config" 2>/dev/null || gzip -dc "$root/proc/config.gz" >"$config"
		borrowed=1
	fi
	under "$release" mkinitramfs -d "$scratch/initramfs-tools" -o "$1" "$release"
	result=$?
	[ -z "$borrowed" ] || rm -f -- "$config"
	return $result
}

list_initramfs() {  # list_initramfs FILE: its files; false where it cannot be read to its end
	case $tool in
	mkinitcpio) lsinitcpio -l "$1" ;;
	dracut) lsinitrd "$1" ;;
	initramfs-tools) lsinitramfs "$1" ;;
	esac
}

check_initramfs() {  # check_initramfs FILE
	local module
	size_of "$1"
	[ "$bytes" -gt 4096 ] && list_initramfs "$1" >"$scratch/initramfs" 2>>"$state/initramfs.out" ||
		die initramfs "could not make an initramfs: $tool ended with $tool_status" "$state/initramfs.out there has its words"
	for module in $root_modules; do
		grep -q "/$(printf %s "$module" | sed 's/[_-]/[_-]/g')\.ko" "$scratch/initramfs" || {
			rm -f -- "$1"
			die initramfs "made an initramfs without $module, which the root disk needs ($tool ended with $tool_status)" "$state/initramfs.out there has its words"
		}
	done
}
