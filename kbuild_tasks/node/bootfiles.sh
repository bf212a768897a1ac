# bootfiles: the installed files are compared with their packages, and what the loader reads goes to names of its own.

bootfiles() {
	load_build "$ask_build"
	running
	! denied "$ask_build" || die denied "does not try the build $ask_build again: $denied_why"
	loader_needed
	[ -s "$state/installed/$ask_build" ] || die missing "has not installed the build $ask_build" 'run doit deploy again'
	recall known-good || die state 'has no record of its known-good kernel' 'run doit deploy again'
	compare_files
	entry='' initramfs='' wanting=''
	if [ ! -s "$scratch/missing" ] && [ ! -s "$scratch/changed" ]; then
		under "$release" depmod ${root:+-b "$root"} "$release" || die files "cannot run depmod for $release"
		under "$release" test -s "$modules/$release/modules.dep" || die files "has no modules.dep of $release after depmod"
		find_wanting
		[ -n "$wanting" ] || place_files
	fi
	raw files "$count"
	raw missing "$(head -n 50 "$scratch/missing" | array)"
	raw changed "$(head -n 50 "$scratch/changed" | array)"
	words modules_missing "$wanting"
	text initramfs "$initramfs"
	raw boot "{$(boot_sums)}"
	text entry "$entry"
}

find_wanting() {  # of the modules asked for: those that the new kernel neither has nor has built in
	local module
	for module in $ask_modules; do
		case $module in
		-*) die protocol 'was asked for a module whose name begins with a dash' ;;
		esac
		under "$release" modprobe ${root:+-d "$root"} -S "$release" -n --show-depends -- "$module" >/dev/null 2>&1 ||
			wanting="$wanting $module"
	done
}

place_files() {
	local made_for initrd
	target=$boot_dir/kbuild/$ask_build
	mkdir -p -- "$target" || die boot-readonly "cannot write to $boot_dir" 'is it mounted read-only?'
	under "$release" cat -- "$modules/$release/vmlinuz" >"$scratch/vmlinuz" || die files 'cannot read the new kernel'
	place "$scratch/vmlinuz" vmlinuz
	# An initramfs that was made for these very modules is not made again: a second run changes nothing.
	made_for=$(under "$release" sha256sum -- "$modules/$release/modules.dep" "$modules/$release/vmlinuz" | cut -d ' ' -f 1 | tr '\n' ' ')
	if [ -s "$target/initrd.img" ] && [ -f "$state/initrd/$ask_build" ] && [ "$(head -n 1 "$state/initrd/$ask_build")" = "$made_for" ] &&
		holds "$target/initrd.img" "$(tail -n 1 "$state/initrd/$ask_build")"; then
		initramfs=kept
	else
		make_initramfs "$scratch/initrd.img"
		if [ "$initramfs" = made ]; then
			place "$scratch/initrd.img" initrd.img
			mkdir -p -- "$state/initrd"
			printf '%s\n%s\n' "$made_for" "$want" | put_file "$state/initrd/$ask_build" || exit 3
		else
			rm -f -- "$target/initrd.img"
		fi
	fi
	place_device_trees
	keep_modules "$ask_build" "$release" "$build_id" || die files "cannot keep the new modules aside"
	# What depmod wrote has no older file to take the place of, and a power cut would leave it empty.
	sync -f -- "$modules" || die space-root 'cannot write the modules to their disk'
	initrd=''
	[ ! -s "$target/initrd.img" ] || initrd=$target/initrd.img
	trial_command_line "${ask_panic:-10}"
	loader_call add "$ask_build" "$target/vmlinuz" "$initrd" "$line" "$release (kbuild $ask_build)"
	entry=kbuild-$ask_build
	entry_known "$entry" || die loader "does not see the entry $entry after it was written" 'docs/bootloaders.md'
}

place() {  # place FILE NAME: onto the boot partition under a name of its own, read back from the disk; hash in $want
	want=$(sha256sum -- "$1") || die files "cannot read $1"
	want=${want%% *}
	if [ -f "$target/$2" ] && holds "$target/$2" "$want"; then
		return
	fi
	case $2 in
	*/*) mkdir -p -- "$target/${2%/*}" ;;
	esac
	size_of "$1"
	free_at "$target"
	[ "$free" -gt $((bytes + 1048576)) ] || die space-boot "has $((free / 1048576)) MiB free in $boot_dir and needs $((bytes / 1048576 + 1)) for $2" "remove old kernels there: ls $boot_dir"
	cat -- "$1" >"$target/$2.tmp" && sync -- "$target/$2.tmp" && mv -T -- "$target/$2.tmp" "$target/$2" &&
		sync -- "$target/$2" "$target" && sync -f -- "$target/$2" || {
		rm -f -- "$target/$2.tmp"
		die space-boot "cannot write $2 to $boot_dir" "df -h $boot_dir there"
	}
	forget_cached "$target/$2"
	holds "$target/$2" "$want" || die files "reads other bytes of $2 from $boot_dir than were written" 'fsck the boot partition'
}

forget_cached() {  # forget_cached FILE: what is read next comes from the disk (dd(1): nocache with count=0)
	dd if="$1" iflag=nocache count=0 status=none 2>/dev/null
	[ -n "$root" ] || echo 3 >/proc/sys/vm/drop_caches
}

place_device_trees() {  # where the firmware loads them beside the kernel
	local file trees
	[ "$loader" = raspberrypi ] || return 0
	trees=$modules/$release/dtb
	under "$release" test -d "$trees" || return 0
	under "$release" find "$trees" -type f \( -name '*.dtb' -o -name '*.dtbo' -o -name README \) >"$scratch/trees"
	while IFS= read -r file; do
		under "$release" cat -- "$file" >"$scratch/tree"
		case $file in
		*/overlays/*) place "$scratch/tree" "overlays/${file##*/}" ;;
		*.dtb) place "$scratch/tree" "${file##*/}" ;;
		esac
	done <"$scratch/trees"
}

boot_sums() {  # members: "NAME": "sha256" of what lies on the boot partition for the build
	separator=''
	for file in "$boot_dir/kbuild/$ask_build"/*; do
		[ -f "$file" ] && [ -n "$entry" ] || continue
		sum=$(sha256sum -- "$file")
		quote "${file##*/}"
		printf '%s%s: "%s"' "$separator" "$quoted" "${sum%% *}"
		separator=', '
	done
}

trial_command_line() {  # trial_command_line PANIC: the running kernel's, less what the loader and we added, with ours; in $line
	local word
	line=''
	for word in $command_line; do
		case $word in
		BOOT_IMAGE=* | initrd=* | panic=* | kbuild.build=*) continue ;;
		root=UUID=* | root=LABEL=*)
			# Without an initramfs the kernel itself has to find its root, and it knows only partitions.
			if [ ! -s "$boot_dir/kbuild/$ask_build/initrd.img" ]; then word=root=PARTUUID=$(root_partuuid); fi ;;
		esac
		line="$line$word "
	done
	line="${line}panic=$1 kbuild.build=$ask_build"
}
