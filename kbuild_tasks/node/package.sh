# What a staged build is: its manifest (effects/files.py writes it, one key a line), its packages, their signatures.

load_build() {  # load_build BUILD: $release, $build_id, $folder, the list of packages; refuses a manifest that is not the build's
	local key value sum file declared
	folder=$state/stage/$1 packages='' listing='' declared=''
	[ -f "$folder/manifest.json" ] || die missing "has no manifest of the build $1" 'run doit deploy again: it is sent again'
	manifest_fields <"$folder/manifest.json" >"$scratch/manifest"
	release='' build_id=''
	while IFS='	' read -r key value sum; do
		case $key in
		kernelrelease) release=$value ;;
		build_id) build_id=$value ;;
		packages_sha256) declared=$value ;;
		package)
			fits name "$value" && fits sha256 "$sum" || die manifest 'has a manifest that is not one of ours'
			listing="$listing$sum  $value
" ;;
		esac
	done <"$scratch/manifest"
	fits release "$release" || die manifest 'has a manifest without a kernelrelease'
	case $build_id in
	'' | *[!0-9a-f]*) die manifest 'has a manifest without the build id of vmlinux' 'the kernel needs a build id to be known by: LDFLAGS with --build-id' ;;
	esac
	# The name of the build is the hash of the packages' hashes: nothing in the manifest can point to other bytes.
	sum=$(printf %s "$listing" | LC_ALL=C sort -k 2 | sha256sum)
	sum=${sum%% *}
	[ "$sum" = "$declared" ] && [ "$(printf %s "$sum" | cut -c 1-12)" = "$1" ] ||
		die manifest "has a manifest that is not that of the build $1" 'run doit package, then doit deploy again'
}

manifest_fields() {
	awk '
		function value(line) { sub(/^[^:]*: /, "", line); sub(/,$/, "", line); gsub(/"/, "", line); return line }
		/^ "(kernelrelease|build_id|packages_sha256)": "/ { key = $1; gsub(/[":]/, "", key); print key "\t" value($0) }
		/^ "packages": \[$/ { inside = 1 }
		/^ \]/ { inside = 0 }
		inside && /^   "file": / { file = value($0) }
		inside && /^   "sha256": / { sum = value($0) }
		inside && /^  \}/ { print "package\t" file "\t" sum; file = ""; sum = "" }
	'
}

load_packages() {  # of the build that was loaded: those that were staged, in $packages; one of them brings the kernel
	local sum file
	kernel_package=''
	# Reading a package asks neither the node's database nor its keys: signatures are looked at by check_signatures.
	mkdir -p -- "$scratch/database/local" "$scratch/database/sync"
	printf '[options]\nSigLevel = Never\nLocalFileSigLevel = Never\n' >"$scratch/pacman.conf"
	printf %s "$listing" >"$scratch/listing"
	while read -r sum file; do
		[ -f "$folder/$file" ] || continue
		holds "$folder/$file" "$sum" || die damaged "has $file with other bytes than its manifest says" 'run doit deploy again: it is sent again'
		packages="$packages${packages:+ }$file"
		pacman --config "$scratch/pacman.conf" --dbpath "$scratch/database" -Qlip -- "$folder/$file" \
			>"$scratch/said" 2>"$scratch/errors" </dev/null 9>&- ||
			die manifest "has $file, which pacman cannot read: $(tail -n 1 "$scratch/errors")"
		sed -n 's/ *: /:/p; /^$/q' "$scratch/said" >"$scratch/info.$file"
		sed '1,/^$/d; s/^[^ ]* \///' "$scratch/said" >"$scratch/files.$file"
		! grep -qxF "usr/lib/modules/$release/vmlinuz" "$scratch/files.$file" || kernel_package=$file
	done <"$scratch/listing"
	[ -n "$kernel_package" ] || die missing "has no package with usr/lib/modules/$release/vmlinuz staged" 'run doit deploy again'
}

signed_by_trusted() {  # signed_by_trusted FILE: does FILE.sig verify with pacman's keyring, by a key that is trusted in it? When, in $signed_at
	local ring
	ring=$root/etc/pacman.d/gnupg
	[ -d "$ring" ] || return 1
	signed_at=$(gpg --homedir "$ring" --batch --no-tty --no-auto-check-trustdb --status-fd 1 --verify "$1.sig" "$1" 2>/dev/null 9>&- |
		awk '
			/^\[GNUPG:\] (BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|NODATA) / { bad = 1 }
			/^\[GNUPG:\] VALIDSIG / { valid++; at = $5 }
			/^\[GNUPG:\] TRUST_(FULLY|ULTIMATE)/ { trusted++ }
			END { if (valid == 1 && trusted == 1 && !bad) print at }
		')
	fits number "$signed_at"
}

check_signatures() {  # $signed: "true" when every package is signed; refuses what must be and is not, or is badly
	local file must newest
	signed=true oldest='' must=$ask_signed
	[ ! -e "$settings/require-signature" ] || must=1
	[ "$must" != 0 ] || {  # not looked at, by the user's word; root's own file on the node stands above it
		signed=false
		return 0
	}
	for file in $packages; do
		if [ ! -f "$folder/$file.sig" ]; then
			signed=false
			[ "$must" != 1 ] || die signature "may only install signed packages, and $file has no signature" \
				'build.sign_key in cluster.yaml, then: doit package deploy'
		else
			signed_by_trusted "$folder/$file" || die signature "does not trust the signature of $file" \
				'there: pacman-key --add KEY.asc, pacman-key --lsign-key FINGERPRINT; is the key expired?'
			[ -n "$oldest" ] && [ "$oldest" -le "$signed_at" ] || oldest=$signed_at
		fi
	done
	[ ! -f "$folder/manifest.json.sig" ] || signed_by_trusted "$folder/manifest.json" ||
		die signature 'does not trust the signature of the manifest' 'there: pacman-key --add KEY.asc, pacman-key --lsign-key FINGERPRINT'
	# Where signatures count, an old one is a build that somebody brings again: its faults are known by now.
	newest=0
	[ ! -f "$state/newest-signature" ] || read -r newest <"$state/newest-signature" || :
	fits number "$newest" || die state 'has a damaged record of the newest signature' "look at $state/newest-signature there"
	[ "$must" != 1 ] || [ "$oldest" -ge "$newest" ] || die signature \
		"does not take a build that was signed on $(date -d "@$oldest" '+%Y-%m-%d %H:%M UTC'), before its known-good one ($(date -d "@$newest" '+%Y-%m-%d %H:%M UTC'))" \
		'if it is wanted all the same: doit forget package, then doit signs it anew'
}

remember_signature() {  # remember_signature BUILD: what was signed before this known-good build is not taken any more
	local at newest
	newest=0
	[ -f "$state/signed/$1" ] && read -r at <"$state/signed/$1" || return 0
	[ ! -f "$state/newest-signature" ] || read -r newest <"$state/newest-signature" || :
	fits number "$at" && fits number "$newest" && [ "$at" -gt "$newest" ] || return 0
	printf '%s\n' "$at" | put_file "$state/newest-signature" || exit 3
}

package_field() {  # package_field FILE FIELD: what pacman says of it, in $field
	local key
	while IFS=: read -r key field; do
		[ "$key" != "$2" ] || return 0
	done <"$scratch/info.$1"
	field=''
}

package_name() {  # package_name FILE: its pkgname in $package, its version in $package_version
	package_field "$1" Name
	package=$field
	package_field "$1" Version
	package_version=$field
	fits name "$package" && fits name "$package_version" || die manifest "has $1, whose name or version is odd"
}

installed_bytes() {  # installed_bytes FILE: in $bytes
	package_field "$1" 'Installed Size'
	bytes=$(printf '%s\n' "$field" | awk '{ k["B"] = 1; k["KiB"] = 1024; k["MiB"] = 1048576; k["GiB"] = 1073741824; printf "%.0f", $1 * k[$2] }')
}
