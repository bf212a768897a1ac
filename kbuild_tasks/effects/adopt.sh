# Before the questions to another coordinator: no run goes on there, and while this script lives none begins (one that
# is started takes this script for an orphan of a dead run, and ends it: what was sent is torn, and asked for again).
# Values used: there (the project's directory), workdir.

state=$workdir.state
if [ -r "$there/build/.lock" ]; then
	exec 7<"$there/build/.lock"
	flock -n -s 7 || die "is at work in $there	wait for that run to end, then doit adopt again"
fi
if [ -r "$state/.lock" ]; then
	exec 8<"$state/.lock"
	flock -n -s 8 || die "is at work in $workdir	wait for that run to end, then doit adopt again"
fi
