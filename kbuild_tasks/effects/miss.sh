#!/bin/sh
# What ccache calls for an object that it does not have, the compiler and its arguments behind it (ccache(1),
# prefix_command). The compiler is called by the name that make said, as without ccache: ccache has made a path of it.

printf '%s\n' "$KBUILD_TASKS_JOB" >>"$KBUILD_TASKS_RECORD"
shift
[ -z "$KBUILD_TASKS_TEXT" ] || PATH=$KBUILD_TASKS_TEXT:$PATH
case $KBUILD_TASKS_JOB in
far*)
	far=$KBUILD_TASKS_COMPILER
	[ "$far" != gcc ] || far=${KBUILD_TASKS_FAR:-gcc}
	exec "$KBUILD_TASKS_GIVE" "$far" "$@"
	;;
esac
exec "$KBUILD_TASKS_COMPILER" "$@"
