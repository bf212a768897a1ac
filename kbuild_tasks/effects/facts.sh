# What a node says of itself. Sets variables that the scripts after it decide with; `facts` prints them as JSON.
# Sources: proc(5) meminfo, df(1), gcc -dump*, distccd --version, systemctl show.
# Values used: workdir, state, port; cc: the compiler's name, gcc or aarch64-linux-gnu-gcc.
# First it waits for whatever else of ours is at work there: what it says must still be true when it is acted upon.

alone 15
unit=kbuild-distccd.service
run=/run/kbuild-tasks

cores=$(nproc)
arch=$(uname -m)
read -r boot_id </proc/sys/kernel/random/boot_id
{ read -r machine_id </etc/machine-id; } 2>/dev/null || machine_id=''
read -r kernel </proc/sys/kernel/osrelease

nearest() {  # nearest PATH: the deepest directory of PATH that exists, in $found; $missing: how many below it do not
	found=$1 missing=0
	while [ ! -d "$found" ]; do
		found=${found%/*} missing=$((missing + 1))
		[ -n "$found" ] || found=/
	done
}

disk() {  # disk DIRECTORY: free bytes of its filesystem, type, source, mount point
	{ read -r _ && read -r free fstype source target; } <<-END
	$(df -B1 --output=avail,fstype,source,target -- "$1")
	END
}

distccd=''
if command -v distccd >/dev/null; then
	read -r _ distccd _ <<-END
	$(distccd --version 2>/dev/null)
	END
fi

served() {  # served COMPILER: would distccd run it under this name? (distccd(1), WHITELIST)
	[ -e "/usr/lib/distcc/$1" ] || [ -L "/usr/lib/distcc/$1" ] || [ -L "/usr/lib/distcc/bin/$1" ]
}

ask_compiler() {  # ask_compiler NAME: what makes the bytes of its objects; $cc is that name from here on
	cc=$1 as=${1%gcc}as version='' machine='' binutils='' masquerade=false
	if command -v "$cc" >/dev/null; then
		version=$("$cc" -dumpfullversion 2>/dev/null)
		machine=$("$cc" -dumpmachine 2>/dev/null)  # one a call: of two -dump options gcc answers the first
	fi
	if command -v "$as" >/dev/null; then
		read -r binutils <<-END
		$("$as" --version 2>/dev/null)
		END
	fi
	if served "$cc"; then masquerade=true; fi
}

named() {  # named: $full, the name with the machine in it of the very compiler that was asked; "": there is none
	full=$machine-gcc
	[ "$full" != "$cc" ] || return 0
	there=$(command -v "$full") || there=''
	if [ -z "$there" ]; then
		full=''
	elif ! [ "$there" -ef "$(command -v "$cc")" ]; then
		[ "$("$full" -dumpfullversion 2>/dev/null) $("$full" -dumpmachine 2>/dev/null)" = "$version $machine" ] &&
			[ "$("$full" -print-prog-name=as)" -ef "$("$cc" -print-prog-name=as)" ] || full=''
	fi
}
ask_compiler "$cc"

look() {  # look: what build mode changes: memory, the place of the workdir, services
	memory=0 available=0
	while read -r key value rest; do
		case $key in
		MemTotal:) memory=$((value * 1024)) ;;
		MemAvailable:) available=$((value * 1024)) && break ;;
		esac
	done </proc/meminfo
	nearest "$workdir"
	missing_workdir=$missing
	disk "$found"
	systemd=false k3s=absent ours=inactive foreign=''
	[ -d /run/systemd/system ] || return 0
	systemd=true
	while IFS='=' read -r key value; do
		case $key in
		Id) id=$value ;;
		LoadState) load=$value ;;
		ActiveState)
			case $id:$load:$value in
			"$unit":*:active) ours=active ;;
			k3s-agent.service:loaded:*) k3s=$value ;;
			distcc*.service:loaded:active) foreign="$foreign${foreign:+ }$id" ;;
			esac ;;
		esac
	done <<-END
	$(systemctl show -p Id -p LoadState -p ActiveState -- $unit k3s-agent.service distcc.service distccd.service)
	END
}
look
current=$(readlink "$state/sync/current") || current=''

facts() {
	json=''
	text fstype "$fstype"
	text source "$source"
	text mountpoint "$target"
	text distccd "$distccd"
	text arch "$arch"
	text kernel "$kernel"
	text boot_id "$boot_id"
	text user "${SUDO_USER:-root}"
	text k3s "$k3s"
	text other_distccd "$foreign"
	text sync "$current"
	text time "$(date +%s.%N)"
	printf '{%s"cores": %d, "memory": %d, "available": %d, "disk_free": %d, "masquerade": %s, "systemd": %s, ' \
		"$json" "$cores" "$memory" "$available" "$free" "$masquerade" "$systemd"
	json=''
	text version "$version"
	text machine "$machine"
	text binutils "$binutils"
	printf '"compiler": {%s}}' "${json%, }"
}

answer() {  # the answer of a script that prepares: members in $json, and the facts
	printf '{%s"facts": ' "$json"
	facts
	printf '}\n'
}
