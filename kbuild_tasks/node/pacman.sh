# install: pacman writes the files, and its word is not taken for anything. See docs/helper.md, "pacman".

install_build() {
	load_build "$ask_build"
	load_packages
	check_signatures
	fit_for
	repaired='' said='' status=0
	# 1. what runs, and what is known to be good, stays: as a record, as modules, as boot files
	if [ ! -f "$state/known-good" ]; then
		remember known-good "$release_now" "${build_id_now:--}" '' "$default_entry"
	elif ! recall known-good; then
		die state 'has a damaged record of its known-good kernel' "look at $state/known-good there"
	fi
	keep_running
	keep_default
	running_key
	[ "$release" != "$release_now" ] || [ ! -f "$kept/$key/release" ] || cover "$key" "$release_now"
	# 2. pacman; a node of another distribution has no database until its first use
	mkdir -p -- "$database/local" "$database/sync" || die pacman-broken "cannot write to pacman's database"
	mend_lock
	mend_entries
	if already_installed; then
		said='already installed'
		restore_old
	else
		rm -f -- "$state/current"
		forget_entries
		run_pacman
	fi
	record_files
	printf '%s\n' "$ask_build" | put_file "$state/current" || exit 3
	raw pacman "$status"
	raw said "$(printf '%s\n' "$said" | array)"
	words repaired "$repaired"
	text release "$release"
}

already_installed() {  # this very build went through to its end, pacman knows of it, and its files are there
	local file current
	[ -s "$state/installed/$ask_build" ] && [ -f "$state/current" ] && read -r current <"$state/current" && [ "$current" = "$ask_build" ] || return 1
	for file in $packages; do
		package_name "$file"
		installed_version "$package"
		[ "$installed" = "$package_version" ] || return 1
	done
	compare_files
	[ ! -s "$scratch/missing" ] && [ ! -s "$scratch/changed" ]
}

run_pacman() {
	local file path complaint
	set --
	collisions >"$scratch/overwrite"
	if [ "$(wc -l <"$scratch/overwrite")" -gt 4000 ]; then  # a command line has an end; these are this release's alone
		set -- --overwrite "usr/lib/modules/$release/*"
		grep -v "^usr/lib/modules/$release/" "$scratch/overwrite" >"$scratch/rest" || :
		mv -- "$scratch/rest" "$scratch/overwrite"
	fi
	# Globs, separated by commas: what means something to either stands for any one character.
	tr ',[]*\\!' '??????' <"$scratch/overwrite" >"$scratch/globs"
	while IFS= read -r path; do
		set -- "$@" --overwrite "$path"
	done <"$scratch/globs"
	# Without repositories pacman cannot know whether kmod is there.
	[ -n "$(pacman-conf ${root:+--config "$root/etc/pacman.conf"} --repo-list 2>/dev/null)" ] || set -- -dd "$@"
	set -- -U --noconfirm --noprogressbar "$@" --
	for file in $packages; do set -- "$@" "$folder/$file"; done
	# Beside the modules, not in /var: the boot unit looks for it before other filesystems are there.
	mkdir -p -- "$kept" && printf '%s\n' "$release" >"$kept/.installing" && sync -- "$kept/.installing" "$kept" ||
		die state "cannot write to $kept" 'is /usr writable?'
	# Into a file: on a pipe to a lost ssh pacman would die in the middle.
	under_pacman "$@" >"$state/pacman.out" 2>&1
	status=$?
	said=$(tail -n 20 -- "$state/pacman.out")
	restore_old  # 3. whatever a hook or pacman took from the old kernels
	[ $status = 0 ] || die pacman "could not install: $(grep '^error' "$state/pacman.out" | head -n 1) (pacman ended with $status)" \
		"$state/pacman.out there has the rest"
	# Hooks and scriptlets that fail leave the status 0 (pacman 6 and 7).
	complaint=$(grep '^error' "$state/pacman.out" | head -n 1)
	[ -z "$complaint" ] || die hook "ran a hook or scriptlet of pacman that failed: $complaint" \
		"$state/pacman.out there has the rest; mend the hook, then run doit deploy again"
	sync -f -- "$modules" || die space-root 'cannot write the modules to their disk'
	rm -f -- "$kept/.installing"
}

under_pacman() {
	if [ -n "$root" ]; then
		set -- --root "$root/" --dbpath "$database/" --config "$root/etc/pacman.conf" --hookdir "$root/etc/pacman.d/hooks" \
			--logfile "$root/var/log/pacman.log" --gpgdir "$root/etc/pacman.d/gnupg" --cachedir "$root/var/cache/pacman/pkg/" "$@"
	fi
	under "$release" pacman "$@" </dev/null 3>&- 9>&-
}

restore_old() {
	if recall known-good && [ "$r_release" != "$release" ] && [ "$r_release" != "$release_now" ]; then
		record_key
		put_back "$key" "$r_release" || die space-root "cannot put back the modules of $r_release" 'df -h /usr'
	fi
	if [ "$release_now" != "$release" ]; then
		running_key
		put_back "$key" "$release_now" || die space-root "cannot put back the modules of $release_now" 'df -h /usr'
	fi
}

record_files() {  # what the packages brought: installed/<build>, links/<build>, packages/<build>
	local file
	mkdir -p -- "$state/installed" "$state/links" "$state/packages" "$state/releases"
	: >"$scratch/mtree"
	: >"$scratch/names"
	for file in $packages; do
		package_name "$file"
		mtree_of "$package" "$package_version" >>"$scratch/mtree"
		printf '%s\n' "$package" >>"$scratch/names"
	done
	grep -v '^link:' "$scratch/mtree" | put_file "$state/installed/$ask_build" || exit 3
	{ grep '^link:' "$scratch/mtree" || :; } | put_file "$state/links/$ask_build" || exit 3
	put_file "$state/packages/$ask_build" <"$scratch/names"
	if [ "$signed" = true ]; then
		mkdir -p -- "$state/signed"
		printf '%s\n' "$oldest" | put_file "$state/signed/$ask_build" || exit 3
	fi
	printf '%s\n' "$release" >"$state/releases/$ask_build"
	grep -q "^[0-9a-f]\{64\}  usr/lib/modules/$release/vmlinuz\$" "$state/installed/$ask_build" ||
		die pacman "has no list of files of $kernel_package in pacman's database" 'run doit deploy again'
}

compare_files() {  # every file against its package's list: $count, names in $scratch/missing and $scratch/changed
	local line path target
	: >"$scratch/missing"
	: >"$scratch/changed"
	count=$(wc -l <"$state/installed/$ask_build")
	# A program that died without a word has not found all of them right.
	(cd -- "${root:-/}" && under "$release" sha256sum -c --quiet -- "$state/installed/$ask_build" 2>/dev/null) >"$scratch/bad" ||
		[ -s "$scratch/bad" ] || die state 'could not compare the installed files with their list' 'doit deploy does it again'
	sed -n 's/: FAILED open or read$//p' "$scratch/bad" >"$scratch/missing"
	sed -n 's/: FAILED$//p' "$scratch/bad" >"$scratch/changed"
	while IFS= read -r line; do
		path=${line#*  } target=${line%%  *}
		[ "$(under "$release" readlink -- "$root/$path")" = "${target#link:}" ] || printf '%s\n' "$path" >>"$scratch/changed"
	done <"$state/links/$ask_build"
}
