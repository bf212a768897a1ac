# Sends what another coordinator has, on stdout. Runs there as the owner of the project (effects/adopt.py). Values used:
# there, workdir, state (adopt.sh), what:
#   trees   a pack of the trees `trees` (git-pack-objects)
#   files   a tar of the paths on stdin, each ended by NUL, absolute but for the first slash
#   kept    a tar of the files on stdin, of those that were kept
#   tree    a tar of all that kbuild made in the tree at `place`; stdin: what its source has, each path twice

pack() {  # pack DIRECTORY OPTION: times in nanoseconds, a file with several names as several files
	tar -c -f - --format=posix --hard-dereference --ignore-failed-read "$2" -C "$1" --null -T -
}

case $what in
trees)
	# shellcheck disable=SC2086 # ids
	printf '%s\n' $trees |
		GIT_DIR=$state/repo.git git -c core.compression=1 pack-objects --revs --stdout --window=0 -q
	;;
files) pack / --recursion ;;
kept) pack "$state/kept/files" --no-recursion ;;
tree)
	cd -- "$workdir/makepkg/$place" || exit
	{
		find . -mindepth 1 \( -type f -o -type l -o -type d -empty \) -printf '%P\0'
		cat
	} | sort -z | uniq -z -u | pack . --no-recursion
	;;
esac
