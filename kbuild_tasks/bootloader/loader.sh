# The loaders behind one interface: a file a loader, NAME_ before each function. Ids are what the loader's own variables
# hold, without ".conf"; ours are kbuild-<name>, whose files lie in <boot>/kbuild/<name>/.
#   NAME_here                does this node boot with it? Asked in the order of loader_find
#   NAME_fit                 can it boot an entry once, and be changed? Sets $boot_dir; else false, $loader_why
#   NAME_scan                $scratch/menu: a line an entry: id, title, kernel's path here, initramfs images, command
#                            line, with tabs between and "-" for nothing; $default_entry, $armed_entry, $selected_entry
#   NAME_writable            could it be armed now? else false, $loader_why (check asks it, nothing stays)
#   NAME_add NAME KERNEL INITRDS COMMAND_LINE TITLE   writes or replaces the entry kbuild-NAME
#   NAME_arm ID, NAME_disarm                          boots it once; does not
#   NAME_set_default ID                               moves the entry that boots otherwise
#   NAME_drop ID                                      removes the entry, not its files
# Nothing here is believed: after each change the loader is scanned again.

loader='' loader_why='' boot_dir='' sd_esp='' default_entry='' armed_entry='' selected_entry=''

loader_find() {  # which loader this node has, in $loader, and what it says; "" and $loader_why if none of ours will do
	local candidate candidates
	running
	loader='' loader_why='none of systemd-boot, GRUB, extlinux and the firmware of a Raspberry Pi was found'
	case $ask_loader in
	'') candidates='systemd_boot grub extlinux raspberrypi' ;;
	systemd-boot) candidates=systemd_boot ;;
	grub | extlinux | raspberrypi) candidates=$ask_loader ;;
	*) die protocol 'was asked for a loader that is none of ours' 'rollout.bootloader in cluster.yaml' ;;
	esac
	[ -z "$ask_loader" ] || loader_why="it does not boot with $ask_loader, which rollout.bootloader names"
	for candidate in $candidates; do
		if "${candidate}_here"; then
			loader_why=''
			! "${candidate}_fit" || loader=$candidate
			break
		fi
	done
	: >"$scratch/menu"
	[ -z "$loader" ] || loader_scan
}

loader_needed() {
	loader_find
	[ -n "$loader" ] || die loader "cannot boot a kernel on trial: $loader_why" 'docs/bootloaders.md has what each loader needs'
}

loader_scan() {
	default_entry='' armed_entry='' selected_entry=''
	"${loader}_scan"
}

loader_call() {  # loader_call WHAT [ARGUMENT...]: a change, and what the loader says then
	local what
	what=$1
	shift
	"${loader}_$what" "$@" || return 1
	loader_scan
}

entry_known() {  # entry_known ID: into e_kernel, e_initrds, e_line; false if there is none
	local id
	while IFS='	' read -r id _ e_kernel e_initrds e_line; do
		[ "$id" = "$1" ] || continue
		[ "$e_kernel" != - ] || e_kernel=''
		[ "$e_initrds" != - ] || e_initrds=''
		[ "$e_line" != - ] || e_line=''
		return 0
	done <"$scratch/menu"
	e_kernel='' e_initrds='' e_line=''
	return 1
}

menu_line() {  # menu_line ID TITLE KERNEL INITRDS COMMAND_LINE: for $scratch/menu
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "${2:--}" "${3:--}" "${4:--}" "${5:--}"
}

may_be_overwritten() {  # may_be_overwritten ID: could this installation write over a file that the entry boots from?
	local file brought
	entry_known "$1" || return 1
	for file in $e_kernel $e_initrds; do
		case ${file#"$boot_dir"} in
		/kbuild/*) continue ;;
		*"/$release"/* | *"-$release" | *"-$release".img | *"-$release".efi) return 0 ;;  # same release: same names
		esac
		for brought in $packages; do  # a hook names files after the package, linux-6.1-cluster: a version in it tells nothing
			package_name "$brought"
			case ${file##*/} in
			*-"$package" | *-"$package"[.-]*) return 0 ;;
			esac
		done
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

keep_default() {  # a copy of the default's files under names of our own, and the default moves to it, if it has to
	local file kernel initrds keep old line
	old=$default_entry
	may_be_overwritten "$old" || return 0
	if [ "$selected_entry" = "$old" ] && [ -n "$build_id_now" ]; then
		keep=keep-$(printf %s "$build_id_now" | cut -c 1-12)
	else
		keep=keep-$(sha256sum <"$e_kernel" | cut -c 1-12)
	fi
	target=$boot_dir/kbuild/$keep
	mkdir -p -- "$target" || die boot-readonly "cannot write to $boot_dir"
	kernel=$target/${e_kernel##*/} initrds=''
	for file in $e_kernel $e_initrds; do
		place "$file" "${file##*/}"
		[ "$file" = "$e_kernel" ] || initrds="$initrds${initrds:+ }$target/${file##*/}"
	done
	[ "$loader" != raspberrypi ] || raspberrypi_keep
	# Where the loader's own line is not to be had, it is the running kernel's, which may be a build of ours.
	line=''
	for file in $e_line; do
		case $file in kbuild.build=*) ;; *) line="$line${line:+ }$file" ;; esac
	done
	loader_call add "$keep" "$kernel" "$initrds" "$line" "kept: $old"
	entry_known "kbuild-$keep" || die loader "does not see the entry kbuild-$keep after it was written"
	# First: a power cut after it leaves two entries that boot the same files, and the next call moves the default.
	if recall known-good && [ "$r_entry" = "$old" ]; then
		remember known-good "$r_release" "$r_build_id" "$r_build" "kbuild-$keep" "$r_since"
	fi
	loader_call set_default "kbuild-$keep" || die loader "could not make kbuild-$keep the default: $loader_why"
	[ "$default_entry" = "kbuild-$keep" ] || die default "was told to boot kbuild-$keep by default, and its loader says $default_entry"
	repaired="$repaired kbuild-$keep"
}

mount_of() {  # mount_of DIRECTORY: where its filesystem begins, in $mount_top
	mount_top=$1
	while [ "$mount_top" != "$root" ] && [ -n "$mount_top" ] && ! mountpoint -q -- "$mount_top"; do
		mount_top=${mount_top%/*}
	done
}

within_boot() {  # within_boot PATH: as the loader sees it, from the root of the filesystem that holds it, in $within
	mount_of "${1%/*}"
	within=${1#"$mount_top"}
}

put_boot_file() {  # put_boot_file PATH: as put_file, and read back; an unchanged file is left alone
	cat >"$scratch/boot-file"
	cmp -s -- "$scratch/boot-file" "$1" && return
	put_file "$1" <"$scratch/boot-file"
	sync -f -- "$1"
	forget_cached "$1"
	cmp -s -- "$scratch/boot-file" "$1" || die files "reads other bytes of $1 than were written" 'fsck the boot partition'
}

loader_json() {  # the member "loader" of observe
	local id title kernel rest list trial_entry
	if [ -z "$loader" ]; then
		quote "$loader_why"
		raw loader "{\"kind\": \"\", \"why\": $quoted, \"boot\": \"\", \"esp\": \"\", \"free\": 0, \"writable\": false, \"efi_writable\": false, \"entries\": [], \"default\": \"\", \"armed\": \"\", \"selected\": \"\"}"
		return
	fi
	trial_entry='' list=''
	! recall trial || trial_entry=$r_entry
	while IFS='	' read -r id title kernel rest; do
		quote "$id"
		list="$list${list:+, }{\"id\": $quoted"
		quote "$title"
		list="$list, \"title\": $quoted, \"release\": "
		entry_release "$id" "$kernel"
		quote "$found_release"
		[ -n "$found_release" ] || quoted=null
		list="$list$quoted, \"build\": "
		case ${id#kbuild-} in
		"$id" | keep-*) list="${list}null" ;;
		*)
			quote "${id#kbuild-}"
			list="$list$quoted" ;;
		esac
		truth test "$id" = "$trial_entry"
		list="$list, \"trial\": $truth}"
	done <"$scratch/menu"
	case $loader in
	systemd_boot) list="\"kind\": \"systemd-boot\", \"entries\": [$list], \"free\": $free_boot" ;;
	*) list="\"kind\": \"$loader\", \"entries\": [$list], \"free\": $free_boot" ;;
	esac
	quote "$boot_dir"
	list="$list, \"boot\": $quoted"
	quote "$sd_esp"
	list="$list, \"esp\": $quoted"
	truth test -w "$boot_dir"
	list="$list, \"writable\": $truth"
	truth efi_writable
	list="$list, \"efi_writable\": $truth"
	quote "$default_entry"
	list="$list, \"default\": $quoted"
	quote "$armed_entry"
	list="$list, \"armed\": $quoted"
	quote "$selected_entry"
	raw loader "{$list, \"selected\": $quoted}"
}

entry_release() {  # entry_release ID KERNEL: the release that an entry boots, as far as records and names tell, in $found_release
	local record
	found_release=''
	case $1 in
	kbuild-keep-*) ;;
	kbuild-*)
		[ ! -f "$state/releases/${1#kbuild-}" ] || read -r found_release <"$state/releases/${1#kbuild-}" || :
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
