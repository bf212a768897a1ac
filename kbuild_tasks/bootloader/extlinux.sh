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
	boot_dir=${extlinux_dir%/*}
	if [ ! -f "$extlinux_dir/ldlinux.sys" ]; then
		loader_why="has an extlinux.conf and no ldlinux.sys: U-Boot cannot boot an entry once"
	elif ! command -v extlinux >/dev/null; then
		loader_why='boots with extlinux, and its program extlinux is not installed'
	else
		return 0
	fi
	return 1
}

extlinux_writable() {
	[ -w "$extlinux_conf" ] || { loader_why="cannot write $extlinux_conf"; return 1; }
}

extlinux_scan() {
	local id title kernel initrds line mark path value image marked first named ontimeout ui
	mount_of "$extlinux_dir"
	image='' marked='' first='' named='' ontimeout='' ui=''
	for path in $command_line; do
		case $path in BOOT_IMAGE=*) image=${path#BOOT_IMAGE=} ;; esac
	done
	extlinux_menu >"$scratch/extlinux-menu"
	: >"$scratch/menu"
	while IFS='	' read -r id title kernel initrds line mark; do
		case $id in
		=default) case $title in *.c32*) ui=1 ;; *) named=${title%% *} ;; esac && continue ;;
		=ontimeout) ontimeout=${title%% *} && continue ;;
		=ui) ui=1 && continue ;;
		esac
		[ -n "$first" ] || first=$id
		[ "$mark" != default ] || marked=$id
		[ -z "$image" ] || [ "$kernel" != "$image" ] || [ -n "$selected_entry" ] || selected_entry=$id
		if [ "$initrds" = - ]; then  # or as an argument
			for path in $line; do
				case $path in initrd=*) initrds=$(printf %s "${path#initrd=}" | tr , ' ') ;; esac
			done
		fi
		value=''
		for path in $line; do
			case $path in initrd=*) ;; *) value="$value${value:+ }$path" ;; esac
		done
		extlinux_paths "$kernel" && kernel=$paths
		extlinux_paths "$initrds"
		menu_line "$id" "$title" "$kernel" "$paths" "$value" >>"$scratch/menu"
	done <"$scratch/extlinux-menu"
	# When the time is over ONTIMEOUT counts, in a menu the entry that is marked, then DEFAULT, then the first.
	default_entry=${ontimeout:-${named:-$first}}
	[ -z "$ui" ] || [ -z "$marked" ] || [ -n "$ontimeout" ] || default_entry=$marked
	extlinux_armed
}

extlinux_menu() {  # a line a label, as in $scratch/menu but with the loader's paths, then "default" where the menu marks it
	tr -d '\r' <"$extlinux_conf" | awk '
		function show(text) { gsub(/\t/, " ", text); return text == "" ? "-" : text }
		function flush() { if (label != "") print label "\t" show(title) "\t" show(kernel) "\t" show(initrds) "\t" show(arguments) "\t" mark }
		{ word = tolower($1); rest = $0; sub(/^[ \t]*[^ \t]+[ \t]*/, "", rest); sub(/[ \t]+$/, "", rest) }
		help { if (word == "endtext") help = 0; next }
		word == "text" && tolower($2) == "help" { help = 1; next }
		word == "default" || word == "ontimeout" || word == "ui" { print "=" word "\t" show(rest) "\t-\t-\t-\t-" }
		word == "label" { flush(); label = rest; title = kernel = arguments = initrds = mark = "" }
		label == "" { next }
		word == "menu" && tolower($2) == "label" { title = rest; sub(/^[^ \t]+[ \t]*/, "", title); gsub(/\^/, "", title) }
		word == "menu" && tolower($2) == "default" { mark = "default" }
		word == "linux" || word == "kernel" { kernel = rest }
		word == "append" { arguments = rest }
		word == "initrd" { initrds = rest; gsub(/,/, " ", initrds) }
		END { flush() }
	'
}

extlinux_paths() {  # extlinux_paths "PATH PATH": on this node, in $paths; relative ones begin at the directory of extlinux.conf
	local path
	paths=''
	for path in $1; do
		case $path in
		-) ;;
		/*) paths="$paths${paths:+ }$mount_top$path" ;;
		*) paths="$paths${paths:+ }$(readlink -m -- "$extlinux_dir/$path")" ;;
		esac
	done
	[ -n "$paths" ] || paths=-
}

extlinux_without() {  # extlinux_without ID: the file less that block of ours; one that does not end may have others' entries behind it
	awk -v begin="# kbuild-tasks $1 begin" -v end="# kbuild-tasks $1 end" '
		{ line = $0; sub(/\r$/, "", line) }
		line == begin { skip = 1 }
		!skip { print }
		line == end { skip = 0 }
		END { exit skip }
	' "$extlinux_conf" || die loader "has a block \"# kbuild-tasks $1 begin\" in $extlinux_conf without its end" \
		"write \"# kbuild-tasks $1 end\" behind it there"
}

extlinux_add() {
	local images image
	[ -n "$default_entry" ] || die loader 'has an extlinux.conf without entries'
	# The first label is the default where none is named: ours come last.
	{
		extlinux_without "kbuild-$1"
		printf '# kbuild-tasks kbuild-%s begin\nLABEL kbuild-%s\n\tMENU LABEL %s\n' "$1" "$1" "$5"
		within_boot "$2"
		printf '\tLINUX %s\n' "$within"
		images=''
		for image in $3; do
			within_boot "$image"
			images="$images${images:+,}$within"
		done
		[ -z "$images" ] || printf '\tINITRD %s\n' "$images"
		printf '\tAPPEND %s\n# kbuild-tasks kbuild-%s end\n' "$4" "$1"
	} >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}

extlinux_arm() {
	extlinux --once="$1" "$extlinux_dir" >"$scratch/said" 2>&1 || {
		loader_why="extlinux --once: $(tail -n 1 "$scratch/said")"
		return 1
	}
	sync -f -- "$extlinux_conf"
}

extlinux_armed() {  # $armed_entry: the boot-once string in the ADV: magic 5a2d2fa5 (little endian), checksum, then tag, length, text
	armed_entry=$(tail -c 1024 -- "$extlinux_dir/ldlinux.sys" | od -An -v -tu1 -w1 | awk '
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
	' | tr -cd '\040-\176')
}

extlinux_disarm() {
	[ -z "$armed_entry" ] || extlinux --clear-once "$extlinux_dir" || die loader 'could not clear what extlinux boots once'
}

extlinux_set_default() {  # one DEFAULT at the head, and nothing that is stronger
	{
		printf 'DEFAULT %s\n' "$1"
		awk '
			{ word = tolower($1); second = tolower($2); sub(/\r$/, "", word); sub(/\r$/, "", second) }
			help { if (word == "endtext") help = 0; print; next }
			word == "text" && second == "help" { help = 1 }
			word == "ontimeout" { next }
			word == "menu" && second == "default" { next }
			word == "default" { if ($0 ~ /\.c32/) { sub(/^[ \t]*[^ \t]+/, "UI"); print }; next }
			{ print }
		' "$extlinux_conf"
	} >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}

extlinux_drop() {
	extlinux_without "$1" >"$scratch/extlinux"
	put_boot_file "$extlinux_conf" <"$scratch/extlinux"
}
