#!/bin/sh
# Gives one object to a worker as distcc does, and makes it here once more, of the very text that was sent: the bytes must
# be the same, with debug information too (docs/trust.md). Called in distcc's place, COMPILER ARGUMENTS behind it, for
# objects that front.sh has drawn; so a wrong object never gets as far as make or ccache.
#
# KBUILD_TASKS_RECORD  gets WHAT <tab> WHY <tab> OBJECT, where WHAT is
#                      same    the two objects are equal
#                      wrong   they are not; WHY is a directory beside the record with both, `theirs` and `ours`, and of
#                              the first one with the text. Status 1
#                      unsure  it could not be told, for the reason WHY
# KBUILD_TASKS_CHECKS  how many compilations of these the machine can carry at a time

record() {
	printf '%s\t%s\t%s\n' "$1" "$2" "$name" >>"$KBUILD_TASKS_RECORD"
}

here() {  # here OBJECT ARGUMENTS: make it of $text; what is said goes to $said
	made=$1
	shift
	flock "$TMPDIR/check.slot.$(($$ % KBUILD_TASKS_CHECKS))" \
		nice -n 10 "$compiler" "$@" -c -o "$made" "$text" 2>"$said"
}

compiler=$1 object='' value=''
shift
for arg do
	[ "$value" != object ] || object=$arg
	value=
	[ "$arg" != -o ] || value=object
done
name=${KBUILD_TASKS_JOB:+"${KBUILD_TASKS_JOB##*	}"}  # ccache may write to another place
name=${name:-$object} value=''
directory=$TMPDIR/check.$$ said=$TMPDIR/check.$$/said
rm -rf -- "$directory"
if ! mkdir -- "$directory"; then
	record unsure "there is no room for a second object"
	exec distcc "$compiler" "$@"
fi
TMPDIR=$directory DISTCC_SAVE_TEMPS=1 distcc "$compiler" "$@"
status=$? given=$?
for arg do  # what distcc tells a worker (its strip.c, dcc_strip_local_args); input and output have other names there
	shift
	if [ "$value" = skip ]; then
		value=
		continue
	fi
	case $arg in
	-o | -D | -U | -I | -L | -l | -MF | -MT | -MQ | -include | -imacros | -iprefix | -iwithprefix | -iwithprefixbefore)
		value=skip ;;
	-isystem | -idirafter | -Xpreprocessor) value=skip ;;
	-Wp,* | -Wl,* | -D* | -U* | -I* | -l* | -L* | -MF* | -MT* | -MQ* | -isystem* | -stdlib*) ;;
	-undef | -nostdinc | -nostdinc++ | -MD | -MMD | -MG | -MP | -c) ;;
	-*) set -- "$@" "$arg" ;;
	*.c) ;;
	*) set -- "$@" "$arg" ;;
	esac
done
what='' why=''
# A client that had to try twice has preprocessed twice; one that took a slot here has sent nothing.
for text in "$directory"/*.i; do
	[ -f "$text" ] && [ "$given" -eq 0 ] || break
	if here "$directory/ours" "$@" && cmp -s -- "$object" "$directory/ours"; then
		what=same why='' status=0
		break
	fi
	# Before a node is accused: does this machine say the same twice?
	if here "$directory/again" "$@"; then
		if cmp -s -- "$object" "$directory/again"; then
			what=same why='' status=0
			break
		fi
		what=wrong
		if ! cmp -s -- "$directory/ours" "$directory/again"; then
			what=unsure why='the compiler here makes two different objects of it'
		fi
	else  # it returned an object of what is none here: that is no object to go on with, whosever fault it is
		what=wrong status=1
		cat -- "$said" >&2
		: >"$directory/ours"
		if grep -Eq 'Killed signal|No space left|memory|internal compiler error|annot fork' "$said"; then
			what=unsure why='it could not be compiled here'
		fi
	fi
done
if [ "$what" = wrong ]; then
	why=${KBUILD_TASKS_RECORD%/*}/wrong.$$
	mkdir -- "$why"
	mv -- "$object" "$why/theirs"
	mv -- "$directory/ours" "$why/ours"
	mkdir -- "$TMPDIR/check.text" 2>/dev/null && mv -- "$text" "$why/text.i"  # it is large
	status=1
	printf '%s: error: a worker returned another object than the compiler here makes of the same text\n' "$name" >&2
fi
[ -z "$what" ] || record "$what" "$why"
rm -rf -- "$directory"
exit "$status"
