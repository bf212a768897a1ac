# The modules of the running and of the known-good kernel, whatever is installed: kept aside as hard links, by build id.
# pacman unlinks what it replaces and depmod renames, so the links keep the old bytes. Where a new build has the release
# of the running one, the kept copy is mounted over the directory, until the reboot; at boot kbuild-modules.service asks
# for boot-modules, which does the same by the running build id.

modules=$root/usr/lib/modules
kept=$root/usr/lib/modules.kbuild

keep_modules() {  # keep_modules BUILD_ID RELEASE: false where there is nothing to keep
	[ ! -f "$kept/$1/release" ] || return 0
	[ -n "$1" ] && under "$2" test -d "$modules/$2/kernel" || return 1
	mkdir -p -- "$kept" && rm -rf -- "$kept/.new" || die state "cannot write to $kept"
	if ! under "$2" cp -al -- "$modules/$2" "$kept/.new" 2>/dev/null; then
		rm -rf -- "$kept/.new"  # not one filesystem: a copy then
		under "$2" cp -a -- "$modules/$2" "$kept/.new" || {
			rm -rf -- "$kept/.new"
			die space-root "cannot keep the modules of $2 aside" 'df -h /usr'
		}
	fi
	printf '%s\n' "$2" >"$kept/.new/release" && rm -rf -- "${kept:?}/$1" && mv -T -- "$kept/.new" "$kept/$1" && sync -- "$kept/$1" "$kept" ||
		die space-root "cannot keep the modules of $2 aside" 'df -h /usr'
}

tree_of() {  # tree_of DIRECTORY: inode and path of each file; what depmod makes is left out
	find "$1" -xdev -type f ! -name 'modules.*' ! -name release -printf '%i %P\n' | sort
}

same_tree() {  # same_tree BUILD_ID RELEASE: is every kept file at its place?
	same_at_a_glance "$1" "$2" && return
	tree_of "$kept/$1" >"$scratch/kept"
	under "$2" find "$modules/$2" -xdev -type f ! -name 'modules.*' ! -name release -printf '%i %P\n' | sort >"$scratch/there"
	[ -z "$(comm -23 "$scratch/kept" "$scratch/there" | head -n 1)" ]
}

same_at_a_glance() {  # one file tells, unless an installation was cut short: at boot this has to be quick
	local name
	[ ! -e "$state/installing" ] && [ -d "$modules/$2/kernel" ] && [ -s "$modules/$2/modules.dep" ] && ! mounted_over "$2" || return 1
	for name in vmlinuz modules.builtin; do
		[ ! -e "$kept/$1/$name" ] || [ "$kept/$1/$name" -ef "$modules/$2/$name" ] || return 1
	done
	[ "$verb" = boot-modules ]
}

mounted_over() {  # mounted_over RELEASE: is a kept copy mounted over its directory?
	[ -d "$modules/$1" ] && mountpoint -q -- "$modules/$1"
}

under() {  # under RELEASE COMMAND...: run it where nothing is mounted over that release's directory
	local directory
	if mounted_over "$1"; then
		directory=$modules/$1
		shift
		# A mount namespace of its own: the running system goes on seeing the kept copy.
		unshare -m --propagation slave -- sh -c \
			'while mountpoint -q -- "$1"; do umount -- "$1" || exit 125; done; shift; exec "$@"' under "$directory" "$@" 9>&-
	else
		shift
		"$@"
	fi
}

cover() {  # cover BUILD_ID RELEASE: the running system sees the kept copy in the release's directory
	mounted_over "$2" || mount --bind -- "$kept/$1" "$modules/$2" ||
		die state "cannot mount the kept modules over $modules/$2" 'give the kernel a release of its own: CONFIG_LOCALVERSION'
}

put_back() {  # put_back BUILD_ID RELEASE: whatever of a kept copy is missing at its place, or is other; says it in $repaired
	[ -f "$kept/$1/release" ] || return 0
	if [ ! -d "$modules/$2" ]; then
		rm -rf -- "$modules/.kbuild.new"
		cp -al -- "$kept/$1" "$modules/.kbuild.new" 2>/dev/null || cp -a -- "$kept/$1" "$modules/.kbuild.new" || return 1
		rm -f -- "$modules/.kbuild.new/release"
		mv -T -- "$modules/.kbuild.new" "$modules/$2" || return 1
	elif same_tree "$1" "$2" && [ -s "$modules/$2/modules.dep" ]; then
		return 0
	else
		cp -al --remove-destination -- "$kept/$1/." "$modules/$2/" 2>/dev/null ||
			cp -a --remove-destination -- "$kept/$1/." "$modules/$2/" || return 1
		rm -f -- "$modules/$2/release"
	fi
	sync -- "$modules"
	repaired="$repaired modules-of-$2"
}

keep_running() {  # before anything is installed: the running kernel's, and the known-good one's
	keep_modules "$build_id_now" "$release_now" || :
	if recall known-good && [ "$r_build_id" != "$build_id_now" ] && [ "$r_release" != "$release_now" ]; then
		keep_modules "$r_build_id" "$r_release" || :
	fi
}

boot_modules() {
	running
	repaired=''
	if [ -z "$build_id_now" ] || [ ! -f "$kept/$build_id_now/release" ]; then
		text modules 'as they are'
	elif [ ! -d "$modules/$release_now" ] && put_back "$build_id_now" "$release_now"; then
		text modules 'put back'
	else
		mkdir -p -- "$modules/$release_now"
		if mounted_over "$release_now"; then
			text modules 'mounted already'
		elif same_tree "$build_id_now" "$release_now"; then
			text modules 'right'
		else
			cover "$build_id_now" "$release_now"
			text modules 'mounted'
		fi
	fi
}
