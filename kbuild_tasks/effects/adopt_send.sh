# Sends what another coordinator has, on stdout. Runs there as the owner of the project (effects/adopt.py). Values used:
# there, workdir, state (adopt.sh), what:
#   trees   a pack of the trees `trees` (git-pack-objects)
#   files   a tar of the paths on stdin, each ended by NUL, absolute but for the first slash; of those that end in a
#           slash with all below, of the others only files
#   kept    a tar of the files on stdin, of those that were kept
#   tree    a tar of all that kbuild made in the tree at `place`; stdin: what its source has, each path twice

pack() {  # pack DIRECTORY OPTION ...: times in nanoseconds, a file with several names as several files
	from=$1
	shift
	tar -c -f - --format=posix --hard-dereference "$@" -C "$from" --null -T -
}

# Where sums tell what came whole, what cannot be read is left out or ends in zeros. In the tree nothing would tell: there
# it ends the script.
case $what in
trees)
	# shellcheck disable=SC2086 # ids
	printf '%s\n' $trees |
		GIT_DIR=$state/repo.git git -c core.compression=1 pack-objects --revs --stdout --window=0 -q
	;;
files)
	# shellcheck disable=SC2016 # of the inner shell
	xargs -0 sh -c 'for path; do
		case $path in */) ;; *) [ -f "/$path" ] || continue ;; esac
		printf "%s\0" "$path"
	done' sh | pack / --recursion --ignore-failed-read
	;;
kept) pack "$state/kept/files" --no-recursion --ignore-failed-read ;;
tree)
	cd -- "$workdir/makepkg/$place" || exit
	{
		find . -mindepth 1 \( -type f -o -type l -o -type d -empty \) -printf '%P\0' ||
			printf '%s\0' '/what find could not read'
		cat
	} | sort -z | uniq -z -u | pack . --no-recursion
	;;
esac
