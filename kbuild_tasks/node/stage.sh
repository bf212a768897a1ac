# A build comes to the node whole or not at all: parts are appended to NAME.part, and only what hashes right is renamed.

reserve=67108864  # bytes that stay free

stage_list() {
	separator=''
	raw files "{$(
		for file in "$state/stage/$ask_build"/*; do
			[ -f "$file" ] || continue
			name=${file##*/} sum=null
			case $name in
			*.part) name=${name%.part} ;;
			*)
				sum=$(sha256sum -- "$file")
				sum="\"${sum%% *}\""
				;;
			esac
			size_of "$file"
			printf '%s"%s": {"size": %s, "sha256": %s}' "$separator" "$name" "$bytes" "$sum"
			separator=', '
		done
	)}"
}

stage_put() {
	case $ask_name in
	*.part) die protocol 'was asked to stage a name that ends in .part' ;;
	esac
	[ "$ask_offset" -le "$ask_size" ] || die offset 'was asked to write behind the end of a file'
	folder=$state/stage/$ask_build
	file=$folder/$ask_name
	if [ -f "$file" ] && holds "$file" "$ask_sha256"; then
		raw size "$ask_size"
		raw complete true
		return
	fi
	mkdir -p -- "$folder" || die space-root "cannot make $folder" "df -h $state"
	size_of "$file.part"
	[ "$bytes" = "$ask_offset" ] || die offset "has $bytes bytes of $ask_name, not $ask_offset" 'ask stage-list, send the rest'
	wanted=$((ask_size - ask_offset))
	free_at "$folder"
	[ "$free" -ge $((wanted + reserve)) ] ||
		die space-root "has $((free / 1048576)) MiB free for $ask_name, which needs $(((wanted + reserve) / 1048576)) MiB" "df -h $state"
	head -c "$wanted" >>"$file.part" || {
		truncate -s "$ask_offset" -- "$file.part"
		die space-root "cannot write $ask_name to its disk" "df -h $state"
	}
	size_of "$file.part"
	if [ "$bytes" -lt "$ask_size" ]; then
		raw size "$bytes"
		raw complete false
		return
	fi
	sync -- "$file.part" || die space-root "cannot write $ask_name to its disk" "df -h $state"
	holds "$file.part" "$ask_sha256" || {
		rm -f -- "$file.part"
		die damaged "got $ask_name with other bytes than were sent; it was thrown away" 'run doit again'
	}
	mv -T -- "$file.part" "$file" && sync -- "$folder" || die state "cannot rename $ask_name into place"
	raw size "$bytes"
	raw complete true
}

holds() {  # holds FILE SHA256
	sum=$(sha256sum -- "$1") && [ "${sum%% *}" = "$2" ]
}
