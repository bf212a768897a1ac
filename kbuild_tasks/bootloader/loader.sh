# The loaders behind one interface. A file a loader, NAME_ before each function; ids are what the loader's own variables
# hold, without ".conf"; ours are kbuild-<name>, whose files lie in <boot>/kbuild/<name>/.
#   NAME_here                  does this node boot with it? Asked in the order of kbuild_tasks/node/__init__.py
#   NAME_fit                   can it boot an entry once, and be changed? else false, $loader_why
#   NAME_boot                  prints the directory that kernels go to
#   NAME_writable              could it be armed now? else false, $loader_why (check asks it, nothing stays)
#   NAME_list                  lines: id, title, kernel's path on this node or "-"; with tabs between
#   NAME_files ID              paths of the entry's kernel and initramfs images, one a line, the kernel first
#   NAME_command_line ID       prints the entry's kernel command line
#   NAME_add NAME KERNEL INITRDS COMMAND_LINE TITLE     writes or replaces the entry kbuild-NAME
#   NAME_arm ID, NAME_armed, NAME_disarm                boot it once; prints what is armed; nothing
#   NAME_default, NAME_set_default ID                   prints the id of the entry that boots otherwise; moves it
#   NAME_selected              prints the id that was booted, or nothing where the loader cannot tell
#   NAME_drop ID               removes the entry, not its files

loader='' loader_why=''

loader_find() {  # which loader this node has, in $loader; "" and $loader_why if none of ours will do
	local candidate
	loader='' loader_why='none of systemd-boot, GRUB, extlinux and the firmware of a Raspberry Pi was found'
	for candidate in systemd_boot grub extlinux raspberrypi; do
		if "${candidate}_here"; then
			loader_why=''
			! "${candidate}_fit" || loader=$candidate
			return 0
		fi
	done
}

loader_call() {  # loader_call WHAT [ARGUMENT...]
	local what
	what=$1
	shift
	"${loader}_$what" "$@"
}

loader_default() {
	[ -z "$loader" ] || loader_call default
}

loader_has() {  # loader_has ID: is there such an entry?
	loader_call list | awk -F '\t' -v id="$1" '$1 == id { found = 1 } END { exit !found }'
}

loader_kernel() {
	loader_call files "$1" | head -n 1
}

loader_initrd() {  # loader_initrd ID: its largest initramfs
	loader_call files "$1" | tail -n +2 | while IFS= read -r file; do
		[ ! -f "$file" ] || printf '%s\t%s\n' "$(stat -L -c %s -- "$file")" "$file"
	done | sort -rn | head -n 1 | cut -f 2-
}

loader_files() {
	loader_call files "$1"
}

may_be_overwritten() {  # may_be_overwritten ID: could this installation write over a file that the entry boots from?
	local file
	for file in $(loader_call files "$1"); do
		case ${file#"$boot_dir"} in
		/kbuild/*) continue ;;
		*"/$release"/* | *"-$release" | *"-$release".img | *"-$release".efi) return 0 ;;  # same release: same names
		esac
		# A name that has another version in it belongs to another kernel; one that has none, to whichever comes last.
		case ${file##*/} in
		*[0-9].[0-9]*) continue ;;
		esac
		case $file in
		*/[0-9]*.[0-9]*/*) continue ;;
		esac
		return 0
	done
	return 1
}

keep_default() {  # keep_default ID: a copy of an entry's files under names of our own, and the default moves to it
	local file kernel initrds line keep
	boot_dir=$(loader_call boot)
	may_be_overwritten "$1" || return 0
	if [ "$(loader_call selected)" = "$1" ] && [ -n "$build_id_now" ]; then
		keep=keep-$(printf %s "$build_id_now" | cut -c 1-12)
	else
		keep=keep-$(sha256sum <"$(loader_kernel "$1")" | cut -c 1-12)
	fi
	target=$boot_dir/kbuild/$keep
	mkdir -p -- "$target" || die boot-readonly "cannot write to $boot_dir"
	loader_call files "$1" >"$scratch/default"
	kernel='' initrds=''
	while IFS= read -r file; do
		place "$file" "${file##*/}"
		if [ -z "$kernel" ]; then kernel=$target/${file##*/}; else initrds="$initrds${initrds:+ }$target/${file##*/}"; fi
	done <"$scratch/default"
	[ -n "$kernel" ] || die default "has a default boot entry without a kernel: $1"
	[ "$loader" != raspberrypi ] || raspberrypi_keep "$1"
	line=$(loader_call command_line "$1")
	loader_call add "$keep" "$kernel" "$initrds" "$line" "kept: $1"
	loader_has "kbuild-$keep" || die loader "does not see the entry kbuild-$keep after it was written"
	loader_call set_default "kbuild-$keep" || die loader "could not make kbuild-$keep the default: $loader_why"
	[ "$(loader_default)" = "kbuild-$keep" ] || die default "was told to boot kbuild-$keep by default, and its loader says $(loader_default)"
	if recall known-good && [ "$r_entry" = "$1" ]; then
		remember known-good "$r_release" "$r_build_id" "$r_build" "kbuild-$keep" "$r_since"
	fi
	repaired="$repaired kbuild-$keep"
}

within_boot() {  # within_boot PATH: as the loader sees it, from the root of the filesystem that holds it
	local mount_top device
	mount_top=${1%/*}
	device=$(stat -c %d -- "$mount_top")
	while [ "$mount_top" != "$root" ] && [ -n "$mount_top" ] && [ "$(stat -c %d -- "${mount_top%/*}/")" = "$device" ]; do
		mount_top=${mount_top%/*}
	done
	printf %s "${1#"$mount_top"}"
}

entry_tsv() {  # entry_tsv ID TITLE KERNEL
	printf '%s\t%s\t%s\n' "$1" "${2:--}" "${3:--}"
}

loader_json() {
	if [ -z "$loader" ]; then
		quote "$loader_why"
		printf '{"kind": "", "why": %s, "boot": "", "esp": "", "free": 0, "writable": false, "efi_writable": false, "entries": [], "default": "", "armed": "", "selected": ""}' "$quoted"
		return
	fi
	boot_dir=$(loader_call boot)
	free_at "$boot_dir"
	printf '{"kind": "%s"' "$(printf %s "$loader" | tr _ -)"
	quote "$boot_dir"
	printf ', "boot": %s, "free": %s' "$quoted" "$free"
	quote "${sd_esp:-}"
	printf ', "esp": %s' "$quoted"
	truth test -w "$boot_dir"
	printf ', "writable": %s' "$truth"
	truth efi_writable
	printf ', "efi_writable": %s, "entries": [' "$truth"
	recall trial && trial_entry=$r_entry || trial_entry=''
	loader_call list | {
		first=1
		while IFS='	' read -r id title kernel; do
			[ -n "$first" ] || printf ', '
			first=''
			quote "$id"
			printf '{"id": %s' "$quoted"
			quote "$title"
			printf ', "title": %s' "$quoted"
			entry_release "$id" "$kernel"
			quote "$found_release"
			[ -n "$found_release" ] || quoted=null
			printf ', "release": %s' "$quoted"
			case ${id#kbuild-} in
			"$id" | keep-*) printf ', "build": null' ;;
			*) printf ', "build": "%s"' "${id#kbuild-}" ;;
			esac
			truth test "$id" = "$trial_entry"
			printf ', "trial": %s}' "$truth"
		done
	}
	for what in default armed selected; do
		quote "$(loader_call "$what")"
		printf '%s"%s": %s' "$([ "$what" != default ] || printf ']'), " "$what" "$quoted"
	done
	printf '}'
}

entry_release() {  # entry_release ID KERNEL: the release that an entry boots, as far as names tell, in $found_release
	local record
	found_release=''
	case $1 in
	kbuild-keep-*) ;;
	kbuild-*)
		found_release=$(grep -s '  usr/lib/modules/[^/]*/vmlinuz$' -- "$state/installed/${1#kbuild-}" | sed 's|.*usr/lib/modules/\([^/]*\)/vmlinuz$|\1|' | head -n 1)
		return
		;;
	esac
	for record in known-good previous trial; do
		if recall "$record" && [ "$r_entry" = "$1" ]; then
			found_release=$r_release
			return
		fi
	done
	case $2 in
	*/vmlinuz-[0-9]*) found_release=${2##*/vmlinuz-} ;;
	*/[0-9]*.[0-9]*/linux) found_release=${2%/linux} found_release=${found_release##*/} ;;
	esac
}
