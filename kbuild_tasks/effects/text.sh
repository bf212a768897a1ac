#!/bin/sh
# Stands before the compiler in PATH, under its name, for objects of kernel C with debug information: one that is made on
# the coordinator is made of its preprocessed text, as a worker makes it. gcc 12 gives the two other rows in .debug_line
# where trace events are expanded (kernel/sched/core.o; with -gno-column-info too), so bytes, and through the build id
# the kernel's own, would tell who compiled. distcc calls this as well, when it falls back.
# Everything but -c of one .c goes to the compiler as it is. See docs/reproduce.md.

name=${0##*/}
PATH=${PATH#"${0%/*}":}
source='' compile=''
for arg do
	case $arg in
	-c) compile=1 ;;
	-E | -S | -M | -MM) exec "$name" "$@" ;;
	*.c) source=$arg ;;
	esac
done
case $compile$source in 1?*) ;; *) exec "$name" "$@" ;; esac

text=${TMPDIR:-/tmp}/text.$$.i
trap 'rm -f "$text"' EXIT
trap 'exit 143' HUP INT TERM
(
	skip=''
	for arg do
		shift
		if [ -n "$skip" ]; then
			skip=''
			continue
		fi
		case $arg in
		-c) ;;
		-o) skip=1 ;;
		*) set -- "$@" "$arg" ;;
		esac
	done
	exec "$name" "$@" -E -o "$text"
) || exit
for arg do
	shift
	[ "$arg" != "$source" ] || arg=$text
	set -- "$@" "$arg"
done
"$name" "$@"
