# The firmware of a Raspberry Pi. Every kernel of ours has a directory that os_prefix names; the firmware takes kernel,
# cmdline.txt, initramfs, device trees (and overlays, if there are any) from there. Once: tryboot.txt, which the firmware
# reads instead of config.txt after `reboot "0 tryboot"` and after nothing else. Entries: "config" is config.txt as it
# was, kbuild-<name> the others. See docs/bootloaders.md for what was tested and on what.

raspberrypi_here() {
	local place
	pi_boot=''
	for place in /boot/firmware /boot; do
		[ ! -f "$root$place/config.txt" ] || { pi_boot=$root$place; break; }
	done
	[ -n "$pi_boot" ] || return 1
	case $(tr -d '\000' <"$root/proc/device-tree/model" 2>/dev/null) in
	'Raspberry Pi'*) return 0 ;;
	esac
	return 1
}

raspberrypi_fit() {
	boot_dir=$pi_boot
	[ "$(wc -c <"$pi_boot/config.txt")" -lt 90000 ] || { loader_why='has a config.txt that is too long for the firmware'; return 1; }
	# What stands behind a block that does not end is somebody's own, and would be lost with it.
	pi_base >/dev/null || { loader_why='has a "# kbuild-tasks begin" in config.txt without its end: write "# kbuild-tasks end" behind it'; return 1; }
}

raspberrypi_writable() {
	[ -w "$pi_boot/config.txt" ] || { loader_why="cannot write $pi_boot/config.txt"; return 1; }
}

pi_base() {  # config.txt as it was before us
	tr -d '\r' <"$pi_boot/config.txt" | awk '
		$0 == "# kbuild-tasks begin" { skip = 1 }
		!skip { sub(/^#kbuild-tasks#/, ""); print }
		$0 == "# kbuild-tasks end" { skip = 0 }
		END { exit skip }
	'
}

pi_config() {  # pi_config ID: config.txt that boots that entry; what it stands against is put behind a mark
	if [ "$1" = config ]; then
		pi_base
		return
	fi
	pi_base | sed 's/^[ 	]*\(kernel\|os_prefix\|cmdline\|initramfs\|auto_initramfs\|ramfsfile\|arm_64bit\)[ 	]*[= 	]/#kbuild-tasks#&/'
	printf '# kbuild-tasks begin\n[all]\nos_prefix=kbuild/%s/\n' "${1#kbuild-}"
	cat -- "$pi_boot/kbuild/${1#kbuild-}/config.part"
	printf '# kbuild-tasks end\n'
}

pi_setting() {  # pi_setting KEY DEFAULT: config.txt's own, as it counts for all models
	local value
	value=$(pi_base | awk -F '[= \t]' -v key="$1" '
		/^\[/ { general = ($0 == "[all]"); next }
		NR == 1 { general = 1 }
		general && $1 == key { sub(/^[^= \t]*[= \t]+/, ""); value = $0 }
		END { print value }
	')
	printf %s "${value:-$2}"
}

pi_kernel() {  # the file name of config.txt's kernel
	case $(uname -m) in
	aarch64) pi_setting kernel kernel8.img ;;
	*) pi_setting kernel kernel7.img ;;
	esac
}

raspberrypi_scan() {
	local part folder prefix image line id boot
	prefix=$pi_boot/$(pi_setting os_prefix '') image=$(pi_setting initramfs '') line=''
	[ ! -f "$prefix$(pi_setting cmdline cmdline.txt)" ] || read -r line <"$prefix$(pi_setting cmdline cmdline.txt)" || :
	menu_line config config.txt "$prefix$(pi_kernel)" "${image:+$prefix${image%% *}}" "$line" >"$scratch/menu"
	for part in "$pi_boot"/kbuild/*/config.part; do
		[ -f "$part" ] || continue
		folder=${part%/config.part} line='' image=$(sed -n 's/^initramfs \([^ ]*\) .*/\1/p' "$part")
		[ ! -f "$folder/cmdline.txt" ] || read -r line <"$folder/cmdline.txt" || :
		menu_line "kbuild-${folder##*/}" "$(sed -n 's/^# //p' "$part" | head -n 1)" "$folder/$(sed -n 's/^kernel=//p' "$part")" \
			"${image:+$folder/$image}" "$line" >>"$scratch/menu"
	done
	pi_id "$(tr -d '\r' <"$pi_boot/config.txt" | sed -n '/^# kbuild-tasks begin$/,/^# kbuild-tasks end$/s/^os_prefix=//p' | head -n 1)"
	default_entry=$id
	if [ -f "$root/proc/device-tree/chosen/os_prefix" ]; then
		pi_id "$(tr -d '\000' <"$root/proc/device-tree/chosen/os_prefix")"
		selected_entry=$id
	fi
	if [ -f "$pi_boot/tryboot.txt" ]; then
		read -r boot <"$root/proc/sys/kernel/random/boot_id"
		armed_entry=$(sed -n "1s/^# kbuild-tasks armed \([^ ]*\) $boot\$/\1/p" "$pi_boot/tryboot.txt")
	fi
}

raspberrypi_add() {
	local folder
	folder=$pi_boot/kbuild/$1
	printf '%s\n' "$4" | put_boot_file "$folder/cmdline.txt" || exit 3
	{
		printf '# %s\nkernel=%s\nauto_initramfs=0\n' "$5" "${2##*/}"
		[ -z "$3" ] || printf 'initramfs %s followkernel\n' "${3##*/}"
		case $(uname -m) in
		aarch64) printf 'arm_64bit=1\n' ;;
		*) printf 'arm_64bit=0\n' ;;
		esac
	} | put_boot_file "$folder/config.part" || exit 3
	pi_device_trees "$folder"
}

pi_device_trees() {  # the firmware ignores os_prefix where it finds no device tree: those the build lacks are its own
	local file
	for file in "$pi_boot"/*.dtb; do
		[ -f "$file" ] && [ ! -f "$1/${file##*/}" ] || continue
		place "$file" "${file##*/}"
	done
}

raspberrypi_keep() {  # overlays too: an upgrade of the firmware's package may write over them
	local file
	[ -d "$pi_boot/overlays" ] || return 0
	mkdir -p -- "$target/overlays"
	for file in "$pi_boot"/overlays/*; do
		[ ! -f "$file" ] || place "$file" "overlays/${file##*/}"
	done
}

raspberrypi_arm() {  # good for this boot alone: the word "tryboot" is said by the helper's reboot
	{
		printf '# kbuild-tasks armed %s %s\n' "$1" "$boot_now"
		pi_config "$1"
	} | put_boot_file "$pi_boot/tryboot.txt" || exit 3
}

raspberrypi_disarm() {
	[ ! -f "$pi_boot/tryboot.txt" ] || ! grep -q '^# kbuild-tasks armed ' "$pi_boot/tryboot.txt" || remove_durably "$pi_boot/tryboot.txt"
}

pi_id() {  # pi_id PREFIX: the entry that an os_prefix belongs to, in $id
	case $1 in
	kbuild/*/) id=${1#kbuild/} id=kbuild-${id%/} ;;
	*) id=config ;;
	esac
}

raspberrypi_set_default() {
	pi_config "$1" >"$scratch/config"
	put_boot_file "$pi_boot/config.txt" <"$scratch/config"
}

raspberrypi_drop() {
	rm -f -- "$pi_boot/kbuild/${1#kbuild-}/config.part" "$pi_boot/kbuild/${1#kbuild-}/cmdline.txt"
}
