# systemd-boot. Its variables are written through efivarfs (documented in systemd.io/BOOT_LOADER_INTERFACE), not with
# bootctl: set-oneshot of an entry that does not exist ends with 0, and not every node has bootctl.

efivars=$root/sys/firmware/efi/efivars
loader_guid=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
efi_fresh=''

efi_get() {  # efi_get NAME: a loader variable's text, in $got; "" where it is not set
	got=''
	[ -f "$efivars/$1-$loader_guid" ] || return 0
	# 4 bytes of attributes, then UTF-16: the shell drops the zeros, and the rest of the attributes is one byte.
	{ got=$(cat -- "$efivars/$1-$loader_guid"); } 2>/dev/null
	got=${got#?}
	case $got in
	*[!\ -~]*) got='' ;;
	esac
}

efi_read() {  # the loader's variables into efi_info, efi_part, efi_once, efi_default, efi_selected, efi_booted: one process
	local name all item
	efi_info='' efi_part='' efi_once='' efi_default='' efi_selected='' efi_booted='' all=''
	set --
	for name in LoaderInfo LoaderDevicePartUUID LoaderEntryOneShot LoaderEntryDefault LoaderEntrySelected LoaderEntryLastBooted; do
		[ ! -f "$efivars/$name-$loader_guid" ] || set -- "$@" "$efivars/$name-$loader_guid"
	done
	[ $# != 0 ] || return 0
	{ all=$(cat -- "$@"); } 2>/dev/null
	# Each begins with its attributes, which leave one byte that is no text.
	for item do
		all=${all#?} name=${item##*/}
		item=${all%%[!\ -~]*}
		all=${all#"$item"}
		case $name in
		LoaderInfo-*) efi_info=$item ;;
		LoaderDevicePartUUID-*) efi_part=$item ;;
		LoaderEntryOneShot-*) efi_once=$item ;;
		LoaderEntryDefault-*) efi_default=$item ;;
		LoaderEntrySelected-*) efi_selected=$item ;;
		LoaderEntryLastBooted-*) efi_booted=$item ;;
		esac
	done
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
	dd if="$scratch/variable" of="$variable" bs=4096 status=none 2>"$scratch/said" || {
		loader_why="cannot write the EFI variable $1: $(tail -n 1 "$scratch/said")"
		return 1
	}
	efi_get "$1"
	[ "$got" = "$2" ] || {
		loader_why="wrote the EFI variable $1, and it reads otherwise"
		return 1
	}
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
	efi_read
	case $efi_info in
	systemd-boot*) return 0 ;;
	esac
	return 1
}

systemd_boot_fit() {
	local place mounted
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
	if [ -z "$root" ] && [ -n "$efi_part" ] && [ "$verb" != observe ]; then
		mounted=$(findmnt -n -o PARTUUID --target "$sd_esp" 2>/dev/null)
		if [ -n "$mounted" ] && [ "$(printf %s "$efi_part" | tr A-F a-f)" != "$(printf %s "$mounted" | tr A-F a-f)" ]; then
			loader_why="was booted from another EFI system partition ($efi_part) than the one at $sd_esp"
			return 1
		fi
	fi
	boot_dir=$sd_esp
	# An extended boot partition of its own at /boot: kernels go there.
	if [ "$sd_esp" != "$root/boot" ] && [ -d "$root/boot/loader/entries" ] && mountpoint -q -- "$root/boot"; then boot_dir=$root/boot; fi
	[ -d "$efivars" ] || {
		loader_why='has no EFI variables (efivarfs is not mounted)'
		return 1
	}
	efi_fresh=1
}

systemd_boot_writable() {
	efi_writable || {
		loader_why='cannot write EFI variables: efivarfs is read-only'
		return 1
	}
	# Only writing tells whether the NVRAM is full. The variable is as long as the one that arming writes.
	efi_put KbuildTasksProbe "kbuild-$ask_build.conf" || {
		efi_drop KbuildTasksProbe
		return 1
	}
	efi_drop KbuildTasksProbe || {
		loader_why='cannot remove an EFI variable'
		return 1
	}
}

systemd_boot_scan() {
	local place file id
	[ -n "$efi_fresh" ] || efi_read
	efi_fresh=''
	set --
	for place in "$boot_dir" "$sd_esp"; do
		for file in "$place"/loader/entries/*.conf; do [ ! -s "$file" ] || set -- "$@" "$file"; done
		[ "$sd_esp" != "$boot_dir" ] || break
	done
	# An id is the file's name, less ".conf" and the counters of boot assessment.
	: >"$scratch/menu"
	[ $# = 0 ] || awk '
		function show(text) { return text == "" ? "-" : text }
		function flush() { if (id != "") print id "\t" show(title) "\t" show(kernel) "\t" show(initrds) "\t" show(options) }
		FNR == 1 {
			flush()
			id = FILENAME; sub(/.*\//, "", id); sub(/\.conf$/, "", id); sub(/\+[0-9]+(-[0-9]+)?$/, "", id)
			place = FILENAME; sub(/\/loader\/entries\/[^\/]*$/, "", place)
			title = kernel = initrds = options = ""
		}
		{ key = $1; value = $0; sub(/^[ \t]*[^ \t]+[ \t]+/, "", value); sub(/[ \t\r]+$/, "", value); gsub(/\t/, " ", value) }
		key == "title" { title = value }
		key == "linux" || key == "efi" { kernel = place value }
		key == "initrd" { initrds = initrds (initrds == "" ? "" : " ") place value }
		key == "options" { options = options (options == "" ? "" : " ") value }
		END { flush() }
	' "$@" >"$scratch/menu"
	for place in "$boot_dir" "$sd_esp"; do
		for file in "$place"/EFI/Linux/*.efi; do [ ! -f "$file" ] || menu_line "${file##*/}" "${file##*/}" "$file" '' ''; done
		[ "$sd_esp" != "$boot_dir" ] || break
	done >>"$scratch/menu"
	! systemd_boot_name "$efi_selected" || selected_entry=$found
	if systemd_boot_name "$efi_once"; then armed_entry=$found; else armed_entry=${efi_once%.conf}; fi
	systemd_boot_name_default
}

systemd_boot_name() {  # systemd_boot_name VALUE: the entry that a variable's value names, whatever its case, in $found
	local id rest
	found=''
	[ -n "$1" ] || return 1
	while IFS='	' read -r id rest; do
		case $1 in
		"$id" | "$id.conf") found=$id && return 0 ;;
		esac
	done <"$scratch/menu"
	found=$(awk -F '\t' -v want="$1" 'BEGIN { want = tolower(want); sub(/\.conf$/, "", want) } tolower($1) == want { print $1; exit }' "$scratch/menu")
	[ -n "$found" ]
}

systemd_boot_name_default() {  # the variable, else loader.conf's pattern, else (nobody says) what was booted
	local pattern rest key value cr
	named_by='' cr=$(printf '\r')
	if systemd_boot_name "$efi_default"; then
		default_entry=$found named_by=variable
		return
	fi
	value=''
	if [ -f "$sd_esp/loader/loader.conf" ]; then
		# Written by hand on a FAT: lines may end with CR LF, the last one with nothing.
		while IFS=" 	$cr" read -r key pattern rest || [ -n "$key" ]; do
			[ "$key" != default ] || value=$pattern
		done <"$sd_esp/loader/loader.conf"
	fi
	for pattern in "$efi_default" "$value"; do
		[ "$pattern" != @saved ] || pattern=$efi_booted
		[ -n "$pattern" ] || continue
		systemd_boot_like "$pattern"
		[ -n "$default_entry" ] || systemd_boot_like "$(printf %s "$pattern" | tr A-Z a-z)" lower  # as the loader does
		[ -z "$default_entry" ] || return 0
	done
	default_entry=$selected_entry
	[ -n "$default_entry" ] || default_entry=$(cut -f 1 "$scratch/menu" | grep -v '^kbuild-' | sort -rV | head -n 1)
}

systemd_boot_like() {  # systemd_boot_like PATTERN [lower]: the entry whose id (in lower case) fits, in $default_entry
	local id shown
	while IFS='	' read -r id _; do
		shown=$id
		[ $# = 1 ] || shown=$(printf %s "$id" | tr A-Z a-z)
		# shellcheck disable=SC2254 # a pattern is what it is
		case $shown in
		$1 | ${1%.conf})
			default_entry=$id
			[ "$id" != "$selected_entry" ] || break ;;
		esac
	done <"$scratch/menu"
}

systemd_boot_plain() {  # refuses a default that boots with what entries of ours do not carry over
	local file
	for file in "$boot_dir/loader/entries/$default_entry".conf "$boot_dir/loader/entries/$default_entry"+*.conf; do
		[ -f "$file" ] || continue
		! grep -q '^devicetree' "$file" || die loader "boots $default_entry with a devicetree, which entries of ours do not carry over" \
			'let its firmware bring the device tree; docs/bootloaders.md'
	done
}

entry_variable() {  # entry_variable ID: what the loader calls it in its variables, in $called
	case $1 in
	*.efi) called=$1 ;;
	*) called=$1.conf ;;
	esac
}

systemd_boot_add() {
	local image
	# Where nothing says what the default is, the order of the entries does, and a new one could come out first.
	if [ "$named_by" != variable ]; then
		[ -n "$default_entry" ] && systemd_boot_set_default "$default_entry" || die loader "cannot pin its present default: $loader_why" 'free EFI variables'
	fi
	mkdir -p -- "$boot_dir/loader/entries"
	{
		printf 'title %s\n' "$5"
		case $2 in
		*.efi) printf 'efi %s\n' "${2#"$boot_dir"}" ;;
		*) printf 'linux %s\n' "${2#"$boot_dir"}" ;;
		esac
		for image in $3; do printf 'initrd %s\n' "${image#"$boot_dir"}"; done
		[ -z "$4" ] || printf 'options %s\n' "$4"
	} | put_boot_file "$boot_dir/loader/entries/kbuild-$1.conf" || exit 3
}

systemd_boot_arm() {
	entry_variable "$1"
	efi_put LoaderEntryOneShot "$called"
}

systemd_boot_disarm() {
	efi_drop LoaderEntryOneShot || die nvram 'cannot remove the EFI variable LoaderEntryOneShot'
}

systemd_boot_set_default() {
	entry_variable "$1"
	efi_put LoaderEntryDefault "$called"
}

systemd_boot_drop() {
	rm -f -- "$boot_dir/loader/entries/$1.conf" && sync -- "$boot_dir/loader/entries"
}
