# systemd-boot. Its variables are written through efivarfs (documented in systemd.io/BOOT_LOADER_INTERFACE), not with
# bootctl: set-oneshot of an entry that does not exist ends with 0, and not every node has bootctl.

efivars=$root/sys/firmware/efi/efivars
loader_guid=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f

efi_get() {  # efi_get NAME: a loader variable's text; nothing where it is not set. 4 bytes of attributes, then UTF-16.
	[ -f "$efivars/$1-$loader_guid" ] || return 0
	cat -- "$efivars/$1-$loader_guid" | tail -c +5 | tr -cd '\040-\176'  # efivarfs cannot seek
}

efi_put() {  # efi_put NAME TEXT: false if it cannot be written or does not read back
	local variable rest
	variable=$efivars/$1-$loader_guid rest=$2
	{
		printf '\007\000\000\000'
		while [ -n "$rest" ]; do
			printf '%s\000' "${rest%"${rest#?}"}"
			rest=${rest#?}
		done
		printf '\000\000'
	} >"$scratch/variable"
	[ ! -e "$variable" ] || chattr -i -- "$variable" 2>/dev/null || :
	# One write: efivarfs hands each one to the firmware as a whole.
	dd if="$scratch/variable" of="$variable" bs=4096 status=none 2>"$scratch/said" ||
		{ loader_why="cannot write the EFI variable $1: $(tail -n 1 "$scratch/said")"; return 1; }
	[ "$(efi_get "$1")" = "$2" ] || { loader_why="wrote the EFI variable $1, and it reads otherwise"; return 1; }
}

efi_drop() {  # efi_drop NAME
	local variable
	variable=$efivars/$1-$loader_guid
	[ -e "$variable" ] || return 0
	chattr -i -- "$variable" 2>/dev/null || :
	rm -f -- "$variable" && [ ! -e "$variable" ]
}

efi_writable() {
	[ -d "$efivars" ] && [ -w "$efivars" ]
}

systemd_boot_here() {
	case $(efi_get LoaderInfo) in
	systemd-boot*) return 0 ;;
	esac
	return 1
}

systemd_boot_fit() {
	local place booted_from mounted
	sd_esp='' sd_boot=''
	for place in /efi /boot/efi /boot; do
		if [ -d "$root$place/EFI" ] && [ -d "$root$place/loader" ]; then
			sd_esp=$root$place
			break
		fi
	done
	if [ -z "$sd_esp" ]; then
		loader_why='boots with systemd-boot, and its EFI system partition is not mounted at /efi, /boot or /boot/efi'
		return 1
	fi
	booted_from=$(efi_get LoaderDevicePartUUID | tr A-F a-f)
	mounted=$(findmnt -n -o PARTUUID --target "$sd_esp" 2>/dev/null | tr A-F a-f)
	if [ -z "$root" ] && [ -n "$booted_from" ] && [ -n "$mounted" ] && [ "$booted_from" != "$mounted" ]; then
		loader_why="was booted from another EFI system partition ($booted_from) than the one at $sd_esp"
		return 1
	fi
	sd_boot=$sd_esp
	# An extended boot partition of its own at /boot: kernels go there.
	if [ "$sd_esp" != "$root/boot" ] && [ -d "$root/boot/loader/entries" ] && mountpoint -q -- "$root/boot"; then sd_boot=$root/boot; fi
	[ -d "$efivars" ] || { loader_why='has no EFI variables (efivarfs is not mounted)'; return 1; }
}

systemd_boot_boot() {
	printf '%s\n' "$sd_boot"
}

systemd_boot_writable() {
	efi_writable || { loader_why='cannot write EFI variables: efivarfs is read-only'; return 1; }
	# Only writing tells whether the NVRAM is full. The variable is as long as the one that arming writes.
	efi_put KbuildTasksProbe "kbuild-$ask_build.conf" || { efi_drop KbuildTasksProbe; return 1; }
	efi_drop KbuildTasksProbe || { loader_why='cannot remove an EFI variable'; return 1; }
}

systemd_boot_entries() {  # the files, one a line
	local place file
	for place in "$sd_esp" "$sd_boot"; do
		for file in "$place"/loader/entries/*.conf; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
		for file in "$place"/EFI/Linux/*.efi; do [ ! -f "$file" ] || printf '%s\n' "$file"; done
		[ "$sd_esp" != "$sd_boot" ] || break
	done
}

systemd_boot_id() {  # systemd_boot_id FILE: less the path, ".conf" and the counters of boot assessment
	local suffix
	id=${1##*/}
	case $id in
	*.conf) suffix='' id=${id%.conf} ;;
	*) suffix=.efi id=${id%.efi} ;;
	esac
	case $id in
	*+[0-9] | *+[0-9]-[0-9] | *+[0-9][0-9] | *+[0-9]-[0-9][0-9]) id=${id%+*} ;;
	esac
	id=$id$suffix
}

systemd_boot_file() {  # systemd_boot_file ID: the entry's file, in $entry_file; false if there is none
	local wanted id
	entry_file=$sd_boot/loader/entries/$1.conf
	[ ! -f "$entry_file" ] || return 0
	wanted=$(printf %s "$1" | tr A-Z a-z)
	systemd_boot_entries >"$scratch/entries"
	while IFS= read -r entry_file; do
		systemd_boot_id "$entry_file"
		[ "$(printf %s "$id" | tr A-Z a-z)" != "$wanted" ] || return 0
	done <"$scratch/entries"
	entry_file=''
	return 1
}

entry_field() {  # entry_field FILE KEY: its values, one a line
	sed -n "s/^[ 	]*$2[ 	][ 	]*//p" -- "$1" | tr -d '\r' | sed 's/[ 	]*$//'
}

systemd_boot_list() {
	systemd_boot_entries | while IFS= read -r file; do
		systemd_boot_id "$file"
		case $file in
		*.efi) entry_tsv "$id" "$id" "$file" ;;
		*)
			path=$({ entry_field "$file" linux; entry_field "$file" efi; } | head -n 1)
			entry_tsv "$id" "$(entry_field "$file" title | head -n 1)" "${path:+${file%/loader/entries/*}$path}" ;;
		esac
	done
}

systemd_boot_files() {
	local place
	systemd_boot_file "$1" || return 0
	case $entry_file in
	*.efi) printf '%s\n' "$entry_file" ;;
	*)
		place=${entry_file%/loader/entries/*}
		{ entry_field "$entry_file" linux; entry_field "$entry_file" efi; } | head -n 1 | sed "s|^|$place|"
		entry_field "$entry_file" initrd | sed "s|^|$place|" ;;
	esac
}

systemd_boot_command_line() {
	systemd_boot_file "$1" || return 0
	case $entry_file in
	*.efi) ;;
	*) entry_field "$entry_file" options | paste -sd' ' - ;;
	esac
}

systemd_boot_add() {
	local file pinned default image
	file=$sd_boot/loader/entries/kbuild-$1.conf
	# Where nothing says what the default is, the order of the entries does, and a new one could come out first.
	pinned=$(efi_get LoaderEntryDefault)
	if [ -z "$pinned" ] || ! systemd_boot_file "${pinned%.conf}"; then
		default=$(systemd_boot_default)
		[ -n "$default" ] && systemd_boot_set_default "$default" || die loader "cannot pin its present default: $loader_why" 'free EFI variables'
	fi
	mkdir -p -- "$sd_boot/loader/entries"
	{
		printf 'title %s\n' "$5"
		case $2 in
		*.efi) printf 'efi %s\n' "${2#"$sd_boot"}" ;;
		*) printf 'linux %s\n' "${2#"$sd_boot"}" ;;
		esac
		for image in $3; do printf 'initrd %s\n' "${image#"$sd_boot"}"; done
		[ -z "$4" ] || printf 'options %s\n' "$4"
	} | put_boot_file "$file" || exit 3
}

put_boot_file() {  # put_boot_file PATH: as put_file, and read back; an unchanged file is left alone
	cat >"$scratch/boot-file"
	cmp -s -- "$scratch/boot-file" "$1" && return
	put_file "$1" <"$scratch/boot-file"
	sync -f -- "$1"
	forget_cached "$1"
	cmp -s -- "$scratch/boot-file" "$1" || die files "reads other bytes of $1 than were written" 'fsck the boot partition'
}

entry_variable() {  # entry_variable ID: what the loader calls it in its variables
	if systemd_boot_file "$1" && [ "${entry_file%.conf}" != "$entry_file" ]; then
		printf '%s.conf' "$1"
	else
		printf %s "$1"
	fi
}

systemd_boot_arm() {
	efi_put LoaderEntryOneShot "$(entry_variable "$1")"
}

systemd_boot_armed() {
	local armed
	armed=$(efi_get LoaderEntryOneShot)
	printf %s "${armed%.conf}"
}

systemd_boot_disarm() {
	efi_drop LoaderEntryOneShot || die nvram 'cannot remove the EFI variable LoaderEntryOneShot'
}

systemd_boot_selected() {
	local selected
	selected=$(efi_get LoaderEntrySelected)
	printf %s "${selected%.conf}"
}

systemd_boot_default() {  # the variable, else loader.conf's pattern, else (nobody says) what was booted
	local pattern found selected
	for pattern in "$(efi_get LoaderEntryDefault)" "$(entry_field "$sd_esp/loader/loader.conf" default 2>/dev/null | tail -n 1)"; do
		[ "$pattern" != @saved ] || pattern=$(efi_get LoaderEntryLastBooted)
		[ -n "$pattern" ] || continue
		found=$(systemd_boot_list | cut -f 1 | sort -rV | while IFS= read -r id; do
			# shellcheck disable=SC2254 # a pattern is what it is
			case $id in
			$pattern | ${pattern%.conf}) printf '%s\n' "$id" ;;
			esac
		done)
		[ -n "$found" ] || continue
		selected=$(systemd_boot_selected)
		if printf '%s\n' "$found" | grep -qxF -- "$selected"; then printf %s "$selected"; else printf '%s\n' "$found" | head -n 1; fi
		return
	done
	selected=$(systemd_boot_selected)
	if [ -n "$selected" ] && systemd_boot_file "$selected"; then
		printf %s "$selected"
	else
		systemd_boot_list | cut -f 1 | grep -v '^kbuild-' | sort -rV | head -n 1
	fi
}

systemd_boot_set_default() {
	efi_put LoaderEntryDefault "$(entry_variable "$1")"
}

systemd_boot_drop() {
	if systemd_boot_file "$1"; then remove_durably "$entry_file"; fi
}
