# forget: what a build left on the node, removed when nothing needs it any more. Never part of a roll-out, and refused
# while one is under way. What is needed: the kernels that run, are known-good, previous, or the default. A previous
# one that was taken back (it is denied) is none to go back to.

builds_there() {  # names of builds that left anything here, and keep-<id>, one a line
	local path
	for path in "$state/stage"/* "$state/installed"/* "$state/releases"/* ${boot_dir:+"$boot_dir"/kbuild/*}; do
		[ -e "$path" ] || continue
		path=${path##*/}
		! fits build "${path#keep-}" || printf '%s\n' "$path"
	done
	while IFS='	' read -r path _; do
		case $path in
		kbuild-*) path=${path#kbuild-} && ! fits build "${path#keep-}" || printf '%s\n' "$path" ;;
		esac
	done <"$scratch/menu"
}

forget() {
	running
	loader_needed
	name=$ask_build
	[ "$ask_kept" != 1 ] || name=keep-$ask_build
	of_the_build
	needed_still
	what_goes
	# shellcheck disable=SC2086 # paths of our own: no spaces in them
	set -- $goes
	bytes_of "$@"
	freed=$bytes
	bytes_of "$boot_dir/kbuild/$name"
	freed_boot=$bytes
	! recall previous || [ "$r_build" != "$name" ] || remove_durably "$state/previous"
	# First nothing points to it; what it is known by goes last, so that a call that was cut short can be repeated.
	[ "$armed_entry" != "kbuild-$name" ] || loader_call disarm
	loader_call drop "kbuild-$name"
	! entry_known "kbuild-$name" || die loader "still has the entry kbuild-$name after it was removed" 'docs/bootloaders.md'
	rm -rf -- "$boot_dir/kbuild/$name" && sync -f -- "$boot_dir" || die boot-readonly "cannot remove $boot_dir/kbuild/$name" 'is it mounted read-only?'
	[ $# = 0 ] || { rm -rf -- "$@" && sync -f -- "$state" "$modules"; } || die state "cannot remove what the build $name left" 'is / writable?'
	text forgotten "$name"
	text release "$f_release"
	raw freed "$freed"
	raw freed_boot "$freed_boot"
}

of_the_build() {  # its release and build id, as far as it left them
	f_release='' f_build_id=''
	[ "$ask_kept" != 1 ] || return 0
	if [ -f "$state/stage/$name/manifest.json" ]; then
		manifest_fields <"$state/stage/$name/manifest.json" >"$scratch/manifest"
		f_release=$(sed -n 's/^kernelrelease	//p' "$scratch/manifest") f_build_id=$(sed -n 's/^build_id	//p' "$scratch/manifest")
	elif [ -f "$state/releases/$name" ]; then
		read -r f_release <"$state/releases/$name" || :
	fi
	fits release "$f_release" || f_release=''
	case $f_build_id in
	*[!0-9a-f]*) f_build_id='' ;;
	esac
}

needed_still() {  # refuses what something needs, and all where it cannot be told
	local record
	for record in known-good previous trial; do
		[ ! -f "$state/$record" ] || recall "$record" || die state "has a damaged record of its $record kernel" "look at $state/$record there"
	done
	! recall trial || die trial "is in a roll-out: it tries the build $r_build" 'doit rollout goes on with it, doit rollback ends it'
	for record in known-good previous; do
		! stays "$record" || { [ "$r_build" != "$name" ] && [ "$r_entry" != "kbuild-$name" ]; } ||
			die needed "needs the build $name: it is its $record kernel" 'roll out another one first'
	done
	[ "$default_entry" != "kbuild-$name" ] || die needed "boots the build $name by default" 'doit rollback'
	! it_runs || die needed "runs the build $name" 'roll out another one first'
}

stays() {  # stays RECORD: is there such a kernel, and is it one to go back to? In r_*
	recall "$1" || return 1
	[ "$1" != previous ] || [ -z "$r_build" ] || ! denied "$r_build"
}

it_runs() {
	[ -z "$selected_entry" ] || {
		[ "$selected_entry" = "kbuild-$name" ]
		return
	}
	case $command_line in
	*"kbuild/$name/"*) return 0 ;;
	esac
	build_running
	[ -z "$build_now" ] || {
		[ "$build_now" = "$name" ]
		return
	}
	[ -n "$f_build_id" ] && [ "$f_build_id" = "$build_id_now" ]
}

what_goes() {  # paths beside the boot partition's, in $goes
	local path
	set --
	[ "$ask_kept" = 1 ] || set -- "$kept/$name"
	if [ -n "$f_build_id" ] && ! kept_for_others; then
		set -- "$@" "$kept/$f_build_id"
	fi
	if [ -n "$f_release" ] && [ -f "$state/installed/$name" ] && ! release_in_use; then
		set -- "$@" "${modules:?}/$f_release"
	fi
	for path in installed links packages initrd signed stage releases; do
		[ "$ask_kept" = 1 ] || set -- "$@" "$state/$path/$name"
	done
	goes=$*
}

kept_for_others() {  # is the kept copy of the modules that of a kernel which stays? (another build may have the same vmlinux)
	local record
	[ "$f_build_id" != "$build_id_now" ] || return 0
	for record in known-good previous; do
		! stays "$record" || [ "$r_build_id" != "$f_build_id" ] || return 0
	done
	return 1
}

release_in_use() {  # does pacman, or a kernel that stays, have the release's directory?
	local record
	[ "$f_release" != "$release_now" ] || return 0
	for record in known-good previous; do
		! stays "$record" || [ "$r_release" != "$f_release" ] || return 0
	done
	grep -qsx "usr/lib/modules/$f_release/vmlinuz" "$database"/local/*/files
}

bytes_of() {  # bytes_of PATH...: what their end gives back, in $bytes; a file with a link elsewhere gives nothing
	bytes=0
	[ $# -gt 0 ] || return 0
	bytes=$(find "$@" -xdev -type f -printf '%D:%i %n %b\n' 2>/dev/null | awk '
		{ links[$1] = $2; blocks[$1] = $3; seen[$1]++ }
		END { for (file in links) if (seen[file] >= links[file]) total += blocks[file]; printf "%.0f", total * 512 }
	')
}
