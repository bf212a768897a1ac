# What the node has: name and content of the current set. Values used: state.
# Answers {"current": ID or "" (none, or none that is whole), "listing": base64 of "SHA256  PATH<NUL>" for each file}.

listing() {  # listing DIRECTORY: the form that an ID is the sha256 of (core/fileset.py)
	(cd -- "$1" && find . -type f -printf '%P\0' | sort -z | xargs -0r sha256sum -z --)
}

whole() {  # whole DIRECTORY: regular files alone, which hash to its name
	[ -d "$1" ] && [ -z "$(find "$1" ! -type f ! -type d -print -quit)" ] || return 1
	found=$(listing "$1" | sha256sum)
	[ "${found%% *}" = "${1##*/}" ]
}

current=$(readlink "$state/sync/current") || current=''
set=$state/sync/${current##*/}
whole "$set" 2>/dev/null || current=''  # changed by hand: nothing of it is built upon
json=''
text current "$current"
printf '{%s"listing": "' "$json"
[ -z "$current" ] || listing "$set" | base64 -w0
printf '"}\n'
