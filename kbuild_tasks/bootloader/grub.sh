# GRUB. Our entries are in kbuild.cfg beside grub.cfg, which custom.cfg sources (grub-mkconfig's 41_custom asks for that
# file), so grub.cfg made anew keeps them. Once: next_entry in grubenv. Default: saved_entry where grub.cfg goes by it,
# else a variable of ours that kbuild.cfg heeds. GRUB itself must be able to clear next_entry, which it cannot on LVM,
# RAID, btrfs and the like: there a trial would not be booted once but for ever, so such a node is refused.

grub_here() {
	local place
	grub_dir=''
	for place in /boot/grub /boot/grub2; do
		[ ! -f "$root$place/grub.cfg" ] || { grub_dir=$root$place; break; }
	done
	[ -n "$grub_dir" ]
}

grub_fit() {
	boot_dir=${grub_dir%/*}
	grub_environment=$(readlink -f -- "$grub_dir/grubenv" 2>/dev/null)
	if ! command -v grub-editenv >/dev/null && ! command -v grub2-editenv >/dev/null; then
		loader_why='boots with GRUB, and grub-editenv is not installed'
	elif ! grep -q '\${\{0,1\}next_entry' "$grub_dir/grub.cfg" || ! grep -q 'save_env next_entry' "$grub_dir/grub.cfg"; then
		loader_why="has a $grub_dir/grub.cfg that cannot boot an entry once (no next_entry): make it with grub-mkconfig"
	elif ! grep -q '/custom\.cfg' "$grub_dir/grub.cfg"; then
		loader_why="has a $grub_dir/grub.cfg that does not source custom.cfg (41_custom): make it with grub-mkconfig"
	elif [ ! -f "$grub_environment" ]; then
		loader_why="has no $grub_dir/grubenv: grub-editenv $grub_dir/grubenv create"
	else
		case $(findmnt -n -v -o FSTYPE,SOURCE --target "$grub_environment" 2>/dev/null | tr -s ' ') in
		*/dev/mapper/* | *' /dev/dm-'* | *' /dev/md'* | btrfs* | zfs* | f2fs* | overlay* | squashfs*)
			loader_why='has its grubenv where GRUB cannot write (LVM, RAID or btrfs): put /boot on a plain partition' ;;
		*) return 0 ;;
		esac
	fi
	return 1
}

grub_writable() {
	[ -w "$grub_environment" ] || { loader_why="cannot write $grub_environment"; return 1; }
}

grub_editenv() {
	if command -v grub-editenv >/dev/null; then grub-editenv "$@"; else grub2-editenv "$@"; fi
}

grub_env_set() {  # grub_env_set set|unset WORD: on a copy that then takes the place of the file, whole
	cp -p -- "$grub_environment" "$grub_environment.new" &&
		grub_editenv "$grub_environment.new" "$1" "$2" &&
		sync -- "$grub_environment.new" && mv -T -- "$grub_environment.new" "$grub_environment" &&
		sync -- "${grub_environment%/*}" && sync -f -- "$grub_environment" || { loader_why='cannot write grubenv'; return 1; }
}

grub_scan() {
	local key value saved fixed image id title kernel initrds line place exact
	saved='' fixed=''
	while IFS='=' read -r key value; do
		case $key in
		next_entry) armed_entry=$value ;;
		saved_entry) saved=$value ;;
		kbuild_default) fixed=$value ;;
		esac
	done <<-END
	$(grub_editenv "$grub_environment" list)
	END
	mount_of "$grub_dir"
	grub_menu >"$scratch/grub"
	if grub_by_saved; then
		value=$saved
	elif [ -n "$fixed" ] && [ -f "$grub_dir/kbuild.cfg" ]; then
		value=$fixed
	else
		value=$(sed -n '/next_entry/d; s/^[ 	]*set default="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$grub_dir/grub.cfg" | head -n 1)
	fi
	image='' exact=''
	case $command_line in
	BOOT_IMAGE=*) image=${command_line#BOOT_IMAGE=} image=${image%% *} image=${image##*)} ;;
	esac
	: >"$scratch/menu"
	while IFS='	' read -r id title kernel initrds line place; do
		[ -z "$image" ] || [ -n "$selected_entry" ] || [ "$kernel" != "$image" ] || selected_entry=$id
		# The default by id, by title, by place in the menu; a submenu stands for its first entry.
		case ${value:-0} in
		"$id" | "$title" | "$place") [ -n "$exact" ] || default_entry=$id exact=1 ;;
		"${place%>*}") [ -n "$default_entry" ] || default_entry=$id ;;
		esac
		grub_paths "$kernel" && kernel=$paths
		grub_paths "$initrds" && initrds=$paths
		case $line in
		*'$'*) line=${command_line#BOOT_IMAGE=* } ;;  # made of variables: what was booted then
		esac
		menu_line "$id" "$title" "$kernel" "$initrds" "$line" >>"$scratch/menu"
	done <"$scratch/grub"
}

grub_paths() {  # grub_paths "PATH PATH": GRUB's paths on this node, in $paths; the filesystem is the boot directory's
	local path
	paths=''
	for path in $1; do
		case $path in
		/*) paths="$paths${paths:+ }$mount_top$path" ;;
		esac
	done
	[ -n "$paths" ] || paths=-
}

grub_menu() {  # every entry: id (submenu's first, with ">"), title, kernel, initrds, arguments, place in the menu ("1>2")
	local file
	set --
	for file in grub.cfg custom.cfg kbuild.cfg; do [ ! -f "$grub_dir/$file" ] || set -- "$@" "$grub_dir/$file"; done
	awk '
		BEGIN { level = 0; depth = 0 }
		function title_of(line,   quote, rest) {
			quote = substr(line, match(line, /[\x27"]/), 1)
			rest = substr(line, RSTART + 1)
			return substr(rest, 1, index(rest, quote) - 1)
		}
		function id_of(line) {
			if (match(line, /(--id|\$\{?menuentry_id_option\}?)[ \t]+[\x27"]?[^\x27" \t{]+/)) {
				line = substr(line, RSTART, RLENGTH)
				sub(/^[^ \t]+[ \t]+[\x27"]?/, "", line)
				return line
			}
			return ""
		}
		function show(text) { gsub(/\t/, " ", text); return text == "" ? "-" : text }
		function flush() {
			if (inside) print prefix id "\t" title "\t" show(kernel) "\t" show(initrds) "\t" show(arguments) "\t" place
			inside = 0
		}
		/^[ \t]*(menuentry|submenu)[ \t]/ {
			title = title_of($0); id = id_of($0); if (id == "") id = title
			place = (level ? outer ">" : "") count[level]++
			rest = $0; gsub(/\$\{[^}]*\}/, "", rest)
			if (rest ~ /\{.*\}[ \t\r]*$/) { print prefix id "\t" title "\t-\t-\t-\t" place; next }  # all of it in one line
			if ($1 == "submenu") { outer = place; prefix = id ">"; level = 1; count[1] = 0; kind[++depth] = "submenu" }
			else { inside = 1; kernel = ""; arguments = ""; initrds = ""; kind[++depth] = "entry" }
			next
		}
		/^[ \t]*(linux|linux16|linuxefi)[ \t]/ && inside {
			kernel = $2; gsub(/\x27/, "", kernel); arguments = $0
			sub(/^[ \t]*[^ \t]+[ \t]+[^ \t]+[ \t]*/, "", arguments)
			gsub(/\x27/, "", arguments)
		}
		/^[ \t]*(initrd|initrd16|initrdefi)[ \t]/ && inside { initrds = $0; sub(/^[ \t]*[^ \t]+[ \t]+/, "", initrds); gsub(/\x27/, "", initrds) }
		/\{[ \t]*$/ { kind[++depth] = "block" }
		/^[ \t]*\}/ && depth {
			if (kind[depth] == "entry") flush()
			if (kind[depth] == "submenu") { level = 0; prefix = "" }
			depth--
		}
	' "$@"
}

grub_add() {
	local fragment uuid path word image
	case $2$3$4$5 in
	*[\'\\]* | *'
'*) die loader 'has a kernel command line with a quote or a backslash, which cannot go into grub.cfg' ;;
	esac
	fragment=$boot_dir/kbuild/$1/grub.cfg
	uuid=$(findmnt -n -v -o UUID --target "$2" 2>/dev/null | grep -x '[0-9A-Fa-f-]*' | head -n 1)
	[ -z "$root" ] || uuid=''
	within_boot "$2"
	path=$within
	{
		printf "menuentry '%s' --id 'kbuild-%s' {\n" "$5" "$1"
		if [ -n "$uuid" ]; then
			printf "\tsearch --no-floppy --fs-uuid --set=root %s\n" "$uuid"
		else
			printf "\tsearch --no-floppy --file --set=root '%s'\n" "$path"
		fi
		printf "\tlinux '%s'" "$path"
		for word in $4; do printf " '%s'" "$word"; done
		printf '\n'
		if [ -n "$3" ]; then
			printf '\tinitrd'
			for image in $3; do
				within_boot "$image"
				printf " '%s'" "$within"
			done
			printf '\n'
		fi
		printf '}\n'
	} | put_boot_file "$fragment" || exit 3
	grub_collect
}

grub_collect() {  # kbuild.cfg anew, from the fragments; custom.cfg gets its line
	local line
	{
		printf '# Written by kbuild-tasks from ../kbuild/*/grub.cfg\n'
		cat -- "$boot_dir"/kbuild/*/grub.cfg 2>/dev/null
		# Where grub.cfg names a fixed default: ours counts, unless an entry is to be booted once.
		grub_by_saved || printf 'if [ -z "${boot_once}" -a -n "${kbuild_default}" ]; then\n\tset default="${kbuild_default}"\nfi\n'
	} | put_boot_file "$grub_dir/kbuild.cfg" || exit 3
	# shellcheck disable=SC2016 # for GRUB
	line='if [ -f ${config_directory}/kbuild.cfg ]; then source ${config_directory}/kbuild.cfg; elif [ -f $prefix/kbuild.cfg ]; then source $prefix/kbuild.cfg; fi'
	grep -qsxF -- "$line" "$grub_dir/custom.cfg" && return
	{
		[ ! -f "$grub_dir/custom.cfg" ] || awk 1 "$grub_dir/custom.cfg"  # its last line may not be ended
		printf '%s\n' "$line"
	} | put_boot_file "$grub_dir/custom.cfg" || exit 3
}

grub_by_saved() {  # does grub.cfg go by saved_entry?
	grep -q '^[ 	]*set default="\{0,1\}\${\{0,1\}saved_entry' "$grub_dir/grub.cfg"
}

grub_arm() {
	grub_env_set set "next_entry=$1"
}

grub_disarm() {
	[ -z "$armed_entry" ] || grub_env_set unset next_entry || die loader "$loader_why"
}

grub_set_default() {
	if grub_by_saved; then grub_env_set set "saved_entry=$1"; else grub_env_set set "kbuild_default=$1"; fi
}

grub_drop() {
	rm -f -- "$boot_dir/kbuild/${1#kbuild-}/grub.cfg"
	grub_collect
}
