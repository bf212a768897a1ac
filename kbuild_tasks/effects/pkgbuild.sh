# What bash and makepkg's own library say of a PKGBUILD, on standard output, as NUL-terminated fields:
#
#   before NAME TEXT     a variable as `declare -p` writes it, before anything was read
#   var NAME TEXT        the same, after the configuration and the PKGBUILD were read
#   fun NAME TEXT        a function of the PKGBUILD as `declare -f` writes it (without comments)
#   xfun NAME            one of them that is exported
#   field NAME VALUE     pkgbase, pkgver ...; `field arch x86_64` once for each element of an array
#   source ENTRY NAME PROTOCOL
#   sum ALGORITHM VALUE  of the source before it
#   file NAME            an install or changelog file, global or of one package function
#   end                  all was said
#
# Run as: bash pkgbuild.sh PKGBUILD CONFIG, in the directory of the PKGBUILD. What the PKGBUILD itself prints goes to
# standard error. Nothing is parsed here: the file is sourced as makepkg sources it.

exec 3>&1 1>&2 </dev/null
umask 0022
ulimit -f 16384 # KiB a file, and its output goes to files
ulimit -t 60 # seconds of CPU: one that loops does not outlive a doit that was killed by much
LIBRARY=/usr/share/makepkg
startdir=$PWD
__kbuild_file=$1 __kbuild_config=$2
set --

__kbuild_say() { builtin printf '%s\0' "$@" >&3; }

__kbuild_variables() {
	local __kbuild_kind=$1 __kbuild_name
	while IFS= builtin read -r __kbuild_name; do
		case $__kbuild_name in
			__kbuild_*) continue ;;
			BASH | BASHPID | BASH_* | COMP_* | DIRSTACK | EPOCH* | FUNCNAME | GROUPS | HISTCMD | LINENO) continue ;;
			OLDPWD | OPTERR | OPTIND | PIPESTATUS | PPID | PWD | RANDOM | SECONDS | SHELLOPTS | SRANDOM | UID | EUID | _) continue ;;
		esac
		builtin printf '%s\0%s\0' "$__kbuild_kind" "$__kbuild_name" >&3
		builtin declare -p "$__kbuild_name" >&3 2>/dev/null
		builtin printf '\0' >&3
	done < <(builtin compgen -v)
}

__kbuild_field() {
	local -n __kbuild_array=$1
	local __kbuild_item
	for __kbuild_item in "${__kbuild_array[@]}"; do __kbuild_say field "$1" "$__kbuild_item"; done
}

__kbuild_sources() {
	local -n __kbuild_list=$1
	local __kbuild_index __kbuild_entry __kbuild_algorithm __kbuild_name
	for __kbuild_index in "${!__kbuild_list[@]}"; do
		__kbuild_entry=${__kbuild_list[__kbuild_index]}
		__kbuild_say source "$__kbuild_entry" "$(get_filename "$__kbuild_entry")" "$(get_protocol "$__kbuild_entry")"
		for __kbuild_algorithm in "${known_hash_algos[@]}"; do
			__kbuild_name="${__kbuild_algorithm}sums${2}[$__kbuild_index]"
			[[ ${!__kbuild_name} ]] && __kbuild_say sum "$__kbuild_algorithm" "${!__kbuild_name}"
		done
	done
}

for __kbuild_library in util/pkgbuild.sh util/source.sh; do
	if ! source "$LIBRARY/$__kbuild_library"; then
		__kbuild_say missing "$LIBRARY/$__kbuild_library"
		exit 1
	fi
done
__kbuild_functions=$(builtin compgen -A function)
__kbuild_variables before
__kbuild_say before SHELLOPTS "$SHELLOPTS"

source "$__kbuild_config"
source "$__kbuild_file"
__kbuild_status=$?
__kbuild_say var SHELLOPTS "$SHELLOPTS"
set +o errexit +o nounset +o noglob
trap - ERR DEBUG RETURN EXIT
if (( __kbuild_status )); then
	__kbuild_say failed "$__kbuild_status"
	exit 1
fi

__kbuild_variables var
while IFS= builtin read -r __kbuild_name; do
	[[ $'\n'$__kbuild_functions$'\n' == *$'\n'"$__kbuild_name"$'\n'* ]] && continue
	builtin printf 'fun\0%s\0' "$__kbuild_name" >&3
	builtin declare -f "$__kbuild_name" >&3
	builtin printf '\0' >&3
done < <(builtin compgen -A function)
while builtin read -r _ __kbuild_flags __kbuild_name; do
	[[ $__kbuild_flags == *x* ]] && __kbuild_say xfun "$__kbuild_name"
done < <(builtin declare -F)

for __kbuild_name in pkgbase pkgname pkgver pkgrel epoch arch depends makedepends checkdepends options noextract \
	validpgpkeys "depends_$CARCH" "makedepends_$CARCH"; do
	__kbuild_field "$__kbuild_name"
done
__kbuild_sources source ""
__kbuild_sources "source_$CARCH" "_$CARCH"
for __kbuild_package in "" "${pkgname[@]}"; do
	for __kbuild_name in install changelog; do
		__kbuild_value=
		get_pkgbuild_attribute "$__kbuild_package" "$__kbuild_name" 0 __kbuild_value
		[[ $__kbuild_value ]] && __kbuild_say file "$__kbuild_value"
	done
done
__kbuild_say end
