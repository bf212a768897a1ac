# What every script for a node starts with. POSIX sh, run by effects/node.py with `set -u` and LC_ALL=C; values are
# variables. A script prints one JSON object on stdout, and everything else goes to stderr or nowhere.

die() {  # die "SENTENCE WITHOUT SUBJECT<TAB>HINT"
	printf 'refused: %s\n' "$1" >&2
	exit 3
}

string() {  # string TEXT: TEXT as a JSON string; what is not printable ASCII becomes "?"
	case $1 in
	*[!A-Za-z0-9\ ._:/+~@=,\;\(\)-]*)
		printf %s "$1" | tr -c '\040-\176' '?' | sed 's/[\\"]/\\&/g; s/.*/"&"/' ;;
	*) printf '"%s"' "$1" ;;
	esac
}
