# The helper of kbuild-tasks: all that a roll-out does as root on a node. Made by kbuild_tasks/node/__init__.py.
# Asked on stdin: the verb, lines of key=value, an empty line, the payload. Answers with one JSON object on stdout, or
# with "refused: SENTENCE<tab>HINT<tab>WORD" on stderr and status 3.

set -u
umask 077
unset CDPATH ENV BASH_ENV GNUPGHOME
IFS=' 	
'
json='' outcome='' scratch='' seen=' ' event=''

die() {  # die WORD "SENTENCE WITHOUT SUBJECT" [HINT]
	outcome="refused: $1: $2"
	printf 'refused: %s\t%s\t%s\n' "$2" "${3:-}" "$1" >&2
	exit 3
}

main() {
	exec 3>&1 1>&2
	[ $# = 0 ] || die protocol 'was called with arguments: the helper takes none' 'sudo -n /usr/local/lib/kbuild-tasks/helper'
	IFS= read -r verb || die protocol 'was asked nothing'
	[ ${#verb} -le 64 ] && needed_by "$verb" || die protocol 'was asked for a verb that it does not know'
	while :; do
		IFS= read -r line || die protocol 'was asked a question that is cut short'
		[ -n "$line" ] || break
		header "$line"
	done
	for key in $needed; do
		case $seen in
		*" $key "*) ;;
		*) die protocol "was asked $verb without $key" ;;
		esac
	done
	trap finish EXIT
	[ -z "$ask_frame" ] || printf '\n@@%s start\n' "$ask_frame" >&3
	dispatch
}

header() {  # header LINE: one key=value of the question
	[ ${#1} -le "$longest" ] || die protocol 'was asked with a line that is too long'
	key=${1%%=*} value=${1#*=}
	[ "$key=$value" = "$1" ] || die protocol 'was asked with a line that is not key=value'
	pattern_of "$verb" "$key" || die protocol "was asked $verb with a key that it does not have"
	case $seen in
	*" $key "*) die protocol "was asked $verb with $key twice" ;;
	esac
	fits "$pattern" "$value" || die protocol "was asked $verb with a $key that is no $pattern"
	store "$key" "$value" || die protocol "was asked $verb with a key that it does not have"
	seen="$seen$key "
}

dispatch() {
	make_scratch
	case $needed in
	*fence*)
		# Work goes on when ssh is lost: half an installation is worse than one that nobody heard of.
		trap '' HUP PIPE
		take_turn
		event=1
		case $verb in
		lease) ;;
		*) heed_fence ;;
		esac ;;
	esac
	case $verb in
	observe) observe ;;
	baseline) baseline ;;
	probe) probe ;;
	journal) journal ;;
	stage-list) stage_list ;;
	stage-put) stage_put ;;
	check) check ;;
	install) install_build ;;
	bootfiles) bootfiles ;;
	arm) arm ;;
	disarm) disarm ;;
	reboot) reboot_node ;;
	commit) commit ;;
	rollback) rollback ;;
	deny) deny_build ;;
	allow) allow_build ;;
	forget) forget ;;
	lease) lease ;;
	k3s) k3s ;;
	boot-modules) boot_modules ;;
	dead-man) dead_man ;;
	esac
	printf '{%s}\n' "${json%, }" >&3
	[ -n "$outcome" ] || outcome='done'
}

finish() {  # however it ends
	status=$?
	trap - EXIT
	[ -z "$scratch" ] || rm -rf -- "$scratch"
	[ -z "$event" ] || log_event "${outcome:-ended with $status}"
	[ -z "$ask_frame" ] || printf '\n@@%s end %s\n' "$ask_frame" "$status" >&3
	exit "$status"
}

make_scratch() {  # a directory of this call's own, in $scratch
	[ -z "$scratch" ] || return 0
	scratch=$(mktemp -d "$root/run/kbuild-helper.XXXXXX") ||
		die state 'cannot make a temporary directory in /run' 'df -h /run'
	# A word of a command line may hold a * (acpi_osi=!*): it must find no file that somebody has put where we were called.
	mkdir -- "$scratch/nothing" && cd -- "$scratch/nothing" || die state 'cannot make a directory in /run' 'df -h /run'
}

# JSON: members are collected in $json, each with ", " after it. What is not printable ASCII becomes "?".

quote() {  # quote VALUE: as a JSON text, in $quoted. No process where it is plain.
	case $1 in
	*[!\ -~]* | *[\"\\]*)
		quoted=$(printf %s "$1" | tr -c '\040-\176' '?' | sed 's/[\\"]/\\&/g; s/.*/"&"/') ;;
	*) quoted="\"$1\"" ;;
	esac
}

text() {  # text KEY VALUE
	quote "$2"
	json="$json\"$1\": $quoted, "
}

raw() {  # raw KEY JSON: numbers, true, false, null, lists, objects
	json="$json\"$1\": $2, "
}

array() {  # lines of stdin as a JSON list
	printf '[%s]' "$(tr -c '\012\040-\176' '?' | sed 's/[\\"]/\\&/g; s/.*/"&"/' | paste -sd, -)"
}

words() {  # words KEY "WORD WORD": a member that is a list of words
	local list word
	list=''
	for word in $2; do
		quote "$word"
		list="$list${list:+, }$quoted"
	done
	raw "$1" "[$list]"
}

truth() {  # truth COMMAND...: "true" or "false", in $truth
	if "$@"; then truth=true; else truth=false; fi
}
