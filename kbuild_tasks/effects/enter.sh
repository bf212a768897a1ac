# How worker.sh and coordinator.sh begin and end: whose the node is, and whether the one who asks still waits. Values:
#   owner, project, me       who asks: a word that names a project on its coordinator; where it lies; the node's name
#   token                    names the run that asks
#   coordinator, machine_of  the coordinator's name, and its boot_id and machine-id
# A run that was interrupted has lost its connection, but not what it started here: the script runs on, or starts late.
# release.sh notes the run as ended before it waits for us, so that nobody enters build mode for a run that is over.

refuse() {  # refuse WORD [DETAIL]: the node is left out; the sentence is made by core/buildmode.py
	json=''
	text refused "$1"
	text detail "${2:-}"
	answer
	exit 0
}

ended() {  # ended: was the run that asks told to be over?
	[ -f /run/kbuild-tasks.ended ] && grep -qx -e "$token" /run/kbuild-tasks.ended
}

others_tree() {  # others_tree: does another project keep its tree in the tmpfs at the workdir?
	! recall "$kept" || [ "$was_workdir" != "$workdir" ] || return 1
	for file in "$state"/kept-*.json; do
		[ "$file" != "$kept" ] && recall "$file" && [ "$was_workdir" = "$workdir" ] && same_boot && return 0
	done
	return 1
}

forget_trees() {  # forget_trees: records of tmpfs at the workdir, where none is: somebody unmounted it
	for file in "$state"/kept-*.json; do
		! recall "$file" || [ "$was_workdir" != "$workdir" ] || rm -f -- "$file"
	done
}

begin() {  # begin: before anything is done; was_* are what was done before, and who does what is done now
	! ended || refuse ended
	[ "$me" = "$coordinator" ] || [ "$boot_id $machine_id" != "$machine_of" ] || refuse twin "$coordinator"
	if recall; then
		! foreign_record || refuse taken "$was_project since $was_since"
		[ "$was_run" != "$token" ] || [ "$was_node" = "$me" ] || refuse twin "$was_node"
	elif ours_mounted "$workdir" && others_tree; then
		refuse tree "$was_project since $was_since"
	fi
	tree=1
	for file in "$record" "$kept"; do
		recall "$file" || continue
		[ "$was_workdir" != "$workdir" ] || [ "${was_owner:-$owner}" != "$owner" ] || continue
		leave
		look
		break
	done
	recall || :
	[ "$was_boot" = "$boot_id" ] && [ -n "$was_since" ] || was_since=$(date '+%F %T %Z')
	was_owner=$owner was_project=$project was_node=$me was_run=$token
}

finish() {  # finish JSON: the answer, where the run still goes on
	if ended; then  # release did not want to wait that long
		leave
		refuse ended
	fi
	json="\"refused\": \"\", \"mode\": {$1}, "
	answer
}

keep_leaver() {  # what leaves build mode where nobody asks for it: systemd at the time limit, or a person
	[ -d "$run" ] || mkdir -p "$run"
	printf '%s\n' "state=$state owner=$owner tree=1" "$leave_script" 'alone 60' leave >$run/leave.sh
}
