# extlinux on a BIOS. Our entries are blocks of extlinux.conf between two comments; once: `extlinux --once`, which writes
# to the ADV at the end of ldlinux.sys and is read back from there. U-Boot reads an extlinux.conf too, but cannot boot an
# entry once: such a node has no ldlinux.sys and is refused.

extlinux_here() {
	local place
	extlinux_conf=''
	for place in /boot/extlinux/extlinux.conf /boot/syslinux/extlinux.conf /boot/syslinux/syslinux.cfg; do
		[ ! -f "$root$place" ] || { extlinux_conf=$root$place; break; }
	done
	[ -n "$extlinux_conf" ] || return 1
	extlinux_dir=${extlinux_conf%/*}
}

extlinux_fit() {
	if [ ! -f "$extlinux_dir/ldlinux.sys" ]; then
		loader_why="has an extlinux.conf and no ldlinux.sys: U-Boot cannot boot an entry once"
	elif ! command -v extlinux >/dev/null; then
		loader_why='boots with extlinux, and its program extlinux is not installed'
	else
		return 0
	fi
	return 1
}

extlinux_boot() {
	printf '%s\n' "${extlinux_dir%/*}"
}

extlinux_writable() {
	[ -w "$extlinux_conf" ] || { loader_why="cannot write $extlinux_conf"; return 1; }
}

extlinux_menu() {  # label, title, kernel, arguments, initrds, "default" where the menu marks it
	tr -d '\r' <"$extlinux_conf" | awk '
		function flush() { if (label != "") print label "\t" title "\t" kernel "\t" arguments "\t" initrds "\t" mark }
		{ word = tolower($1); rest = $0; sub(/^[ \t]*[^ \t]+[ \t]*/, "", rest); sub(/[ \t]+$/, "", rest) }
		word == "label" { flush(); label = rest; title = "-"; kernel = "-"; arguments = ""; initrds = ""; mark = "" }
		label == "" { next }
		word == "menu" && tolower($2) == "label" { title = rest; sub(/^[^ \t]+[ \t]*/, "", title); gsub(/\^/, "", title) }
		word == "menu" && tolower($2) == "default" { mark = "default" }
		word == "linux" || word == "kernel" { kernel = rest }
		word == "append" { arguments = rest }
		word == "initrd" { initrds = rest; gsub(/,/, " ", initrds) }
		END { flush() }
	'
}

extlinux_path() {  # extlinux_path PATH: on this node; relative ones begin at the directory of extlinux.conf
	case $1 in
	- | '') printf -- - ;;
	/*)
		mount_of "$extlinux_dir"
		printf '%s%s' "$mount_top" "$1" ;;
	*) readlink -m -- "$extlinux_dir/$1" | tr -d '\n' ;;
	esac
}

extlinux_list() {
	extlinux_menu | while IFS='	' read -r id title kernel _; do
		entry_tsv "$id" "$title" "$(extlinux_path "$kernel")"
	done
}

extlinux_field() {
	extlinux_menu | awk -F '\t' -v id="$1" -v n="$2" '$1 == id { print $n; exit }'
}

extlinux_files() {
	local kernel images image word
	kernel=$(extlinux_field "$1" 3)
	[ -n "$kernel" ] && [ "$kernel" != - ] || return 0
	printf '%s\n' "$(extlinux_path "$kernel")"
	images=$(extlinux_field "$1" 5)
	if [ -z "$images" ]; then  # or as an argument
		for word in $(extlinux_field "$1" 4); do
			case $word in initrd=*) images=$(printf %s "${word#initrd=}" | tr , ' ') ;; esac
		done
	fi
	for image in $images; do printf '%s\n' "$(extlinux_path "$image")"; done
}

extlinux_command_line() {
	extlinux_field "$1" 4 | sed 's/ *initrd=[^ ]*//'
}

extlinux_without() {  # extlinux_without ID: the file less that block of ours
	awk -v begin="# kbuild-tasks $1 begin" -v end="# kbuild-tasks $1 end" '
		$0 == begin { skip = 1 }
		!skip { print }
		$0 == end { skip = 0 }
	' "$extlinux_conf"
}

extlinux_add() {
	local images image
	if [ -z "$(extlinux_menu_default)" ]; then die loader 'has an extlinux.conf without entries'; fi
	# The first label is the default where none is named: ours come last.
	{
		extlinux_without "kbuild-$1"
		printf '# kbuild-tasks kbuild-%s begin\nLABEL kbuild-%s\n\tMENU LABEL %s\n' "$1" "$1" "$5"
		printf '\tLINUX %s\n' "$(within_boot "$2")"
		images=''
		for image in $3; do images="$images${images:+,}$(within_boot "$image")"; done
		[ -z "$images" ] || printf '\tINITRD %s\n' "$images"
		printf '\tAPPEND %s\n# kbuild-tasks kbuild-%s end\n' "$4" "$1"
	} >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}

extlinux_arm() {
	extlinux --once="$1" "$extlinux_dir" >"$scratch/said" 2>&1 || { loader_why="extlinux --once: $(tail -n 1 "$scratch/said")"; return 1; }
	sync -f -- "$extlinux_conf"
}

extlinux_armed() {  # the boot-once string in the ADV: magic 5a2d2fa5 (little endian), checksum, then tag, length, text
	tail -c 1024 -- "$extlinux_dir/ldlinux.sys" | od -An -v -tu1 -w1 | awk '
		{ byte[NR - 1] = $1 + 0 }
		END {
			for (copy = 0; copy < 1024; copy += 512) {
				if (byte[copy] != 165 || byte[copy + 1] != 47 || byte[copy + 2] != 45 || byte[copy + 3] != 90) continue
				for (at = copy + 8; at < copy + 508 && byte[at] != 0; at += 2 + byte[at + 1]) {
					if (byte[at] != 1) continue
					text = ""
					for (i = 0; i < byte[at + 1]; i++) text = text sprintf("%c", byte[at + 2 + i])
					print text
					exit
				}
			}
		}
	' | tr -cd '\040-\176'
}

extlinux_disarm() {
	[ -z "$(extlinux_armed)" ] || extlinux --clear-once "$extlinux_dir" || die loader 'could not clear what extlinux boots once'
}

extlinux_menu_default() {
	local marked timeout named
	marked=$(extlinux_menu | awk -F '\t' '$6 == "default" { print $1; exit }')
	timeout=$(extlinux_global ontimeout)
	if [ -n "$timeout" ]; then
		printf '%s\n' "${timeout%% *}"
	elif [ -n "$marked" ] && [ -n "$(extlinux_global ui)$(extlinux_global default | grep '\.c32')" ]; then
		printf '%s\n' "$marked"
	else
		named=$(extlinux_global default)
		case $named in
		'' | *.c32*) extlinux_menu | head -n 1 | cut -f 1 ;;
		*) printf '%s\n' "${named%% *}" ;;
		esac
	fi
}

extlinux_global() {  # extlinux_global WORD: its last value
	tr -d '\r' <"$extlinux_conf" | awk -v word="$1" 'tolower($1) == word { $1 = ""; sub(/^ /, ""); value = $0 } END { if (value != "") print value }'
}

extlinux_default() {
	extlinux_menu_default
}

extlinux_set_default() {  # one DEFAULT at the head, and nothing that is stronger
	{
		printf 'DEFAULT %s\n' "$1"
		awk '
			{ word = tolower($1) }
			word == "ontimeout" { next }
			word == "menu" && tolower($2) == "default" { next }
			word == "default" { if ($0 ~ /\.c32/) { sub(/^[ \t]*[^ \t]+/, "UI"); print }; next }
			{ print }
		' "$extlinux_conf"
	} >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}

extlinux_selected() {
	local image word
	image=''
	for word in $command_line; do
		case $word in BOOT_IMAGE=*) image=${word#BOOT_IMAGE=} ;; esac
	done
	[ -n "$image" ] || return 0
	extlinux_menu | awk -F '\t' -v image="$image" '$3 == image { print $1; exit }'
}

extlinux_drop() {
	extlinux_without "$1" >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}
