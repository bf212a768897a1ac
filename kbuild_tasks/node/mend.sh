# pacman's database after a kill: a lock that nobody holds, an entry of our package that lacks its parts.

mend_lock() {
	lock_state
	case $lock in
	held) die pacman-lock 'runs pacman at this moment' 'wait for it, then run doit deploy again' ;;
	stale)
		rm -f -- "$database/db.lck" || die pacman-lock 'cannot remove the stale lock of pacman'
		repaired="$repaired db.lck" ;;
	esac
}

mend_entries() {  # broken entries of ours are moved away; their files stay and are written again by the installation
	local entry
	for entry in $(broken_entries); do
		broken_is_ours "$entry" || die pacman-broken "has a broken entry in pacman's database: $entry" \
			'reinstall that package there: pacman -S --overwrite "*" NAME'
		mkdir -p -- "$state/broken" && rm -rf -- "$state/broken/$entry" &&
			mv -T -- "$database/local/$entry" "$state/broken/$entry" || die pacman-broken "cannot mend the entry $entry of pacman's database"
		repaired="$repaired $entry"
	done
}

forget_entries() {  # the database's entries of the packages that come: without their files, so that nothing is removed
	local file
	for file in $packages; do
		package_name "$file"
		installed_version "$package"
		[ -n "$installed" ] || continue
		pacman_ -Rdd --dbonly --noconfirm -- "$package" >"$state/pacman.out" 2>&1 ||
			die pacman "cannot take $package out of pacman's database: $(tail -n 1 "$state/pacman.out")" 'pacman -Dk there'
		installed_version "$package"
		[ -z "$installed" ] || die pacman "has $package in pacman's database though pacman took it out" 'pacman -Dk there'
	done
}

collisions() {  # paths of the packages that exist and are not directories, one a line: what --overwrite may name
	local file path
	# What lies under a mounted copy counts, not the copy.
	under "$release" find "$modules/$release" ! -type d -printf "usr/lib/modules/$release/%P\n" 2>/dev/null | sort >"$scratch/there"
	for file in $packages; do
		grep -v '/$' "$scratch/files.$file" | sort >"$scratch/brought"
		comm -12 "$scratch/there" "$scratch/brought"
		grep -v "^usr/lib/modules/$release/" "$scratch/brought" | while IFS= read -r path; do
			if [ -e "$root/$path" ] || [ -L "$root/$path" ]; then
				may_overwrite "$path" && printf '%s\n' "$path"
			fi
		done
	done
}

may_overwrite() {  # may_overwrite PATH: outside of this release's directory only what a build of ours brought before
	cat -- "$state"/installed/* "$state"/links/* 2>/dev/null |
		sed -n 's/^[0-9a-f]\{64\}  //p; s/^link:.*  //p' | grep -qxF -- "$1" || return 1
}

mtree_of() {  # mtree_of PACKAGE VERSION: "sha256  path" of each file it brought, "link:target  path" of each link
	gzip -dc -- "$database/local/$1-$2/mtree" 2>/dev/null | awk '
		function plain(text,   out, code) {
			out = ""
			while (match(text, /\\[0-7][0-7][0-7]/)) {
				code = substr(text, RSTART + 1, 3)
				out = out substr(text, 1, RSTART - 1) sprintf("%c", substr(code, 1, 1) * 64 + substr(code, 2, 1) * 8 + substr(code, 3, 1))
				text = substr(text, RSTART + 4)
			}
			return out text
		}
		/^\/set / { for (i = 2; i <= NF; i++) if ($i ~ /^type=/) type0 = substr($i, 6); next }
		/^\.\// {
			type = type0; sum = ""; link = ""
			for (i = 2; i <= NF; i++) {
				if ($i ~ /^type=/) type = substr($i, 6)
				if ($i ~ /^sha256digest=/) sum = substr($i, 14)
				if ($i ~ /^link=/) link = substr($i, 6)
			}
			path = substr($1, 3)
			if (path ~ /^\.[A-Z]+$/) next
			if (type == "file") print sum "  " plain(path)
			if (type == "link") print "link:" plain(link) "  " plain(path)
		}
	'
}

