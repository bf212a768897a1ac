# What the node has: name and content of the current set. Values used: state.
# Answers {"current": ID or "", "listing": base64 of "SHA256  PATH<NUL>" for each file}.

listing() {  # listing DIRECTORY: the form that an ID is the sha256 of (core/fileset.py)
	(cd -- "$1" && find . -type f -printf '%P\0' | sort -z | xargs -0r sha256sum -z --)
}

current=$(readlink "$state/sync/current") || current=''
json=''
text current "$current"
printf '{%s"listing": "' "$json"
[ -z "$current" ] || [ ! -d "$state/sync/$current" ] || listing "$state/sync/$current" | base64 -w0
printf '"}\n'
