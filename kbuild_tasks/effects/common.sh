# What every script for a node starts with. POSIX sh, run by effects/node.py with `set -u` and LC_ALL=C; values are
# variables. A script prints one JSON object on stdout, and everything else goes to stderr or nowhere.

die() {  # die "SENTENCE WITHOUT SUBJECT<TAB>HINT"
	printf 'refused: %s\n' "$1" >&2
	exit 3
}

alone() {  # alone SECONDS: wait until no other script of ours changes this node; then they wait for this one to end
	exec 9>>/run/kbuild-tasks.lock
	flock -w "$1" 9 || die "is busy: something of ours has been at work there for $1 s	run doit again in a minute"
}

text() {  # text KEY VALUE: append a member to $json; what is not printable ASCII becomes "?". No process where plain.
	case $2 in
	*[!A-Za-z0-9\ ._:/+~@=,\;\(\)-]*)
		quoted=$(printf %s "$2" | tr -c '\040-\176' '?' | sed 's/[\\"]/\\&/g; s/.*/"&"/') ;;
	*) quoted="\"$2\"" ;;
	esac
	json="$json\"$1\": $quoted, "
}
