# The modules of the running, the known-good and each tried kernel, whatever is installed: kept aside as hard links.
# pacman unlinks what it replaces and depmod renames, so the links keep the old bytes. Where a new build has the release
# of the running one, the kept copy is mounted over the directory, until the reboot; at boot kbuild-modules.service asks
# for boot-modules, which does the same for the kernel that runs.
# A copy is named by its build: builds that differ in modules alone have one vmlinux, and so one build id. Which build
# runs is told by the command line of its entry (kbuild.build=). A kernel that is not ours, and an entry of an earlier
# helper, say nothing of it: their copies are named by build id.

modules=$root/usr/lib/modules
kept=$root/usr/lib/modules.kbuild

running_key() {  # what the running kernel's copy is called, in $key; "" where it cannot be told
	running
	build_running
	key=${build_now:-$build_id_now}
}

build_running() {  # the build that runs, in $build_now. Tools copy /proc/cmdline to other kernels: the word alone proves nothing
	local word copy_release copy_id
	build_now=''
	for word in $command_line; do
		case $word in kbuild.build=*) build_now=${word#kbuild.build=} ;; esac
	done
	[ -n "$build_now" ] || return 0
	if fits build "$build_now" && [ -f "$kept/$build_now/release" ]; then
		{ read -r copy_release && read -r copy_id; } <"$kept/$build_now/release" || copy_id=''
		[ "$copy_release" != "$release_now" ] || [ "$copy_id" != "$build_id_now" ] || return 0
	fi
	build_now=''
}

record_key() {  # what the copy of the kernel in r_* is called, in $key
	key=$r_build
	[ -n "$key" ] && [ -f "$kept/$key/release" ] || key=$r_build_id
}

record_runs() {  # does the kernel in r_* run?
	build_running
	[ "$r_build_id" = "$build_id_now" ] && { [ -z "$build_now" ] || [ "$build_now" = "$r_build" ]; }
}

keep_modules() {  # keep_modules KEY RELEASE BUILD_ID: false where there is nothing to keep
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
	# Synced before it has its name: a power cut would leave an empty release, and a copy that nobody trusts.
	printf '%s\n%s\n' "$2" "$3" >"$kept/.new/release" && sync -f -- "$kept/.new" && rm -rf -- "${kept:?}/$1" && mv -T -- "$kept/.new" "$kept/$1" && sync -- "$kept/$1" "$kept" ||
		die space-root "cannot keep the modules of $2 aside" 'df -h /usr'
}

tree_of() {  # tree_of DIRECTORY: inode and path of each file; what depmod makes is left out
	find "$1" -xdev -type f ! -name 'modules.*' ! -name release -printf '%i %P\n' | sort
}

same_tree() {  # same_tree KEY RELEASE: is every kept file at its place?
	same_at_a_glance "$1" "$2" && return
	tree_of "$kept/$1" >"$scratch/kept"
	under "$2" find "$modules/$2" -xdev -type f ! -name 'modules.*' ! -name release -printf '%i %P\n' | sort >"$scratch/there"
	[ -z "$(comm -23 "$scratch/kept" "$scratch/there" | head -n 1)" ]
}

same_at_a_glance() {  # one file tells, unless an installation was cut short: at boot this has to be quick
	local name
	[ ! -e "$kept/.installing" ] && [ -d "$modules/$2/kernel" ] && [ -s "$modules/$2/modules.dep" ] && ! mounted_over "$2" || return 1
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

cover() {  # cover KEY RELEASE: the running system sees the kept copy in the release's directory
	mounted_over "$2" || mount --bind -- "$kept/$1" "$modules/$2" ||
		die state "cannot mount the kept modules over $modules/$2" 'give the kernel a release of its own: CONFIG_LOCALVERSION'
}

put_back() {  # put_back KEY RELEASE: whatever of a kept copy is missing at its place, or is other; says it in $repaired
	[ -f "$kept/$1/release" ] || return 0
	# What is mounted there is the running kernel's copy itself: it is right, and writing to it would change it.
	! mounted_over "$2" || return 0
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
	running_key
	mounted_over "$release_now" || keep_modules "$key" "$release_now" "$build_id_now" || :
	if recall known-good && ! record_runs && [ "$r_release" != "$release_now" ]; then
		record_key
		keep_modules "$key" "$r_release" "$r_build_id" || :
	fi
}

boot_modules() {
	running_key
	repaired=''
	if [ -z "$key" ] || [ ! -f "$kept/$key/release" ]; then
		text modules 'as they are'
	elif [ ! -d "$modules/$release_now" ] && put_back "$key" "$release_now"; then
		text modules 'put back'
	else
		mkdir -p -- "$modules/$release_now"
		if mounted_over "$release_now"; then
			text modules 'mounted already'
		elif same_tree "$key" "$release_now"; then
			text modules 'right'
		else
			cover "$key" "$release_now"
			text modules 'mounted'
		fi
	fi
}
