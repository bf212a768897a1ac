# How worker.sh and coordinator.sh begin and end. Value used: token, which names the run that asks.
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
	grep -qx -e "$token" /run/kbuild-tasks.ended 2>/dev/null
}

begin() {  # begin: before anything is done; was_* are what was done before
	! ended || refuse ended
	tree=1
	if recall && [ "$was_workdir" != "$workdir" ]; then
		leave
		recall || :
		look
	fi
}

finish() {  # finish JSON: the answer, where the run still goes on
	if ended; then  # release did not want to wait that long
		leave
		refuse ended
	fi
	json="\"refused\": \"\", \"mode\": {$1}, "
	answer
}
