#!/bin/sh
# Compiler front of kbuild-tasks: stands first in PATH under the compiler's own name, so that the command lines which
# kbuild records are those of a local build whatever the state of the cluster. It hands -c compiles of kernel C to
# distcc and everything else (host programs, assembly, links, probes, preprocessing) to the real compiler of the same
# name further down in PATH. Written for dash and bash; costs about a millisecond a call. See docs/distcc.md.
#
# KBUILD_TASKS_RECORD   file that gets one line for each object of kernel C: WHAT <tab> WHY <tab> OBJECT, where WHAT is
#                       far   given to distcc
#                       here  compiled here, WHY: "alone" (no workers) or what makes it a local job by design
#                       lost  distcc ended with the status WHY, it is tried again
#                       had   ccache ended well: without another line for this object it came from the cache
#                       dead  a question to the compiler ended by a signal, WHY its status, for good: see ask()
#                       Without this variable the front is only a detour to the real compiler.
# KBUILD_TASKS_TIMES    file that gets "began" <tab> SECONDS <tab> OBJECT, in /proc/uptime's seconds, and "ended" for what
#                       this script waits for and gets; what is compiled here has taken its place by then, and its object's
#                       mtime tells. Two reads and two lines: 0.05 ms. May be unset.
# KBUILD_TASKS_WORKERS  names of the workers; empty: none takes part, distcc is not used
# KBUILD_TASKS_CC       the compiler that the workers were asked for; another one is not sent
# KBUILD_TASKS_FAR      name under which distcc asks for gcc: the one that workers of another architecture have too
# KBUILD_TASKS_CCACHE   not empty: ccache stands before distcc and the compiler, and calls miss.sh for what it lacks
# KBUILD_TASKS_CHECK    of 2^32, how many objects given to distcc are made here once more and compared (check.sh); drawn for
#                       each by the kernel's random numbers, so that no worker can know which; may be unset

name=${0##*/} front=${0%/*}
case $PATH in
"$front":*) PATH=${PATH#"$front":} ;;
*)
	rest=$PATH: PATH=
	while [ -n "$rest" ]; do
		[ "${rest%%:*}" = "$front" ] || PATH=$PATH${PATH:+:}${rest%%:*}
		rest=${rest#*:}
	done
	;;
esac
[ -n "$KBUILD_TASKS_RECORD" ] || exec "$name" "$@"

# Most of these are questions: does the compiler know this option? A compiler that was killed (memory was short, say) has
# not answered, and Makefile and Kconfig take that for "no": all objects are then made without the option, or the .config
# lacks what depends on it, and nothing fails. So it is asked again; not where it reads its standard input, which is gone.
ask() {
	for arg do
		[ "$arg" != - ] || tries=3
	done
	while :; do
		{ said=$("$name" "$@" 2>&1 >&3); } 3>&1
		status=$? tries=$((tries + 1))
		case $status:$said in
		0:*) killed='' ;;
		129:* | 13[0-9]:* | 14[0-3]:* | *" signal terminated program "*) killed=1 ;;
		*) killed='' ;;
		esac
		[ -n "$killed" ] && [ "$tries" -lt 3 ] || break
	done
	[ -z "$killed" ] || printf 'dead\t%s\t%s\n' "$status" "$name" >>"$KBUILD_TASKS_RECORD"
	[ -z "$said" ] || printf '%s\n' "$said" >&2
	exit "$status"
}
tries=0

compile='' kernel='' source='' object='' why='' value='' text=''
for arg do
	if [ -n "$value" ]; then
		[ "$value" = object ] && object=$arg
		value=
		continue
	fi
	case $arg in
	-Wunused-macros) why=macros ;; # gcc refuses it together with -fdirectives-only
	-W[!aplu]* | -I* | -f[!pdctas]* | -m[!at]* | -std=*) ;; # most of them: nothing to look at
	-c) compile=1 ;;
	-o) value=object ;;
	-D__KERNEL__) kernel=1 ;;
	-include | -imacros | -isystem | -idirafter | -iquote | -MF | -MT | -MQ | -D | -U | -I | -T) value=skip ;;
	-E | -S | -M | -MM | -x* | - | @* | /dev/null) ask "$@" ;;
	# What distcc would refuse to send, or would send and get wrong (docs/distcc.md has the list with reasons).
	-fplugin*) why=plugin ;;
	-march=native | -mtune=native) why=native ;;
	-gsplit-dwarf* | -dumpdir | -dumpbase*) why=split-dwarf ;;
	-fprofile-* | -ftest-coverage | --coverage | -fauto-profile*) why=profile ;;
	-save-temps* | -fdump-* | -ftime-trace* | -fcallgraph-info* | -fstack-usage | -dr* | -aux-info) why=side-file ;;
	-Wa,*.s | -Wa,-a* | -Wa,--MD*) why=assembler-file ;;
	-g3 | -ggdb3) why=macros ;; # macros in the debug information tell how they came in
	-specs=* | --specs=* | -B*) why=specs ;;
	-g0) text='' ;;
	-g*) text=1 ;;
	*.c)
		[ -z "$source" ] || exec "$name" "$@"
		source=$arg
		;;
	*.S | *.s | *.o | *.a) exec "$name" "$@" ;;
	esac
done
case $compile$kernel:$source:$object in
11:?*:?*) ;;
*) exec "$name" "$@" ;;
esac
[ "$name" = "${KBUILD_TASKS_CC:-$name}" ] || why=compiler
case $source in
conftest.* | */conftest.* | */tmp.conftest.*) exec "$name" "$@" ;;
*kernel/configs.c | *kernel/kheaders.c) [ -n "$why" ] || why=incbin ;; # the assembler reads a file beside it
*[!A-Za-z0-9_./+,=@%~:-]*) why=name ;; # would need quotes of C in __BASE_FILE__
esac
# Every object gets these, wherever it is compiled, or the place would show in its debug information.
# -fdirectives-only: the preprocessing that stays on the coordinator costs a third, and a remote compiler sees macros
# unexpanded as a local one does (no -Werror of its own). A worker's file has another name, so __BASE_FILE__ is told.
case $why in
macros | name) ;;
*) set -- "$@" -fdirectives-only -Wno-builtin-macro-redefined "-D__BASE_FILE__=\"$source\"" ;;
esac

if [ -n "$KBUILD_TASKS_TIMES" ]; then
	read -r now rest </proc/uptime
	printf 'began\t%s\t%s\n' "$now" "$object" >>"$KBUILD_TASKS_TIMES"
fi
what=far
if [ -n "$why" ]; then  # ccache would not see all of what these read, or write
	printf 'here\t%s\t%s\n' "$why" "$object" >>"$KBUILD_TASKS_RECORD"
	exec "$name" "$@"
elif [ -z "$KBUILD_TASKS_WORKERS" ]; then
	what=here why=alone
fi
# With debug information an object is made of its preprocessed text here as well: text.sh.
[ -z "$text" ] || export KBUILD_TASKS_TEXT="$front.text"
give=distcc
if [ -n "$KBUILD_TASKS_CHECK" ] && [ "$what" = far ]; then
	read -r drawn </proc/sys/kernel/random/uuid
	[ "$((0x${drawn%%-*}))" -ge "$KBUILD_TASKS_CHECK" ] || give=$front/.check
fi
if [ -n "$KBUILD_TASKS_CCACHE" ]; then
	# What ccache lacks is recorded when it is made: miss.sh, which ccache calls with the compiler behind it.
	export KBUILD_TASKS_JOB="$what	$why	$object" KBUILD_TASKS_COMPILER="$name" KBUILD_TASKS_GIVE="$give"
	call=ccache
else
	printf '%s\t%s\t%s\n' "$what" "$why" "$object" >>"$KBUILD_TASKS_RECORD"
	[ -z "$text" ] || PATH=$KBUILD_TASKS_TEXT:$PATH
	[ "$what" = far ] || exec "$name" "$@"
	call=$give
	[ "$name" != gcc ] || name=${KBUILD_TASKS_FAR:-gcc}
fi
for try in 1 2 3; do
	"$call" "$name" "$@"
	status=$?
	[ "$status:$call" != 0:ccache ] || printf 'had\t\t%s\n' "$object" >>"$KBUILD_TASKS_RECORD"
	# gcc ends with 0, 1 or 4; from 100 on it is distcc's own failure (distcc(1), EXIT CODES), or a signal: a client that
	# hangs on a dead worker is ended from outside and tried again, by then without that worker.
	if [ $status -lt 100 ]; then
		if [ -n "$KBUILD_TASKS_TIMES" ]; then
			read -r now rest </proc/uptime
			printf 'ended\t%s\t%s\n' "$now" "$object" >>"$KBUILD_TASKS_TIMES"
		fi
		exit $status
	fi
	printf 'lost\t%s\t%s\n' "$status" "$object" >>"$KBUILD_TASKS_RECORD"
done
[ -z "$text" ] || [ -z "$KBUILD_TASKS_CCACHE" ] || PATH=$KBUILD_TASKS_TEXT:$PATH
exec "$name" "$@"
