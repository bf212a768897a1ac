# The reboot, and the dead man: a trial that nobody verified in time goes back to the default by itself.

reboot_node() {
	running
	[ -z "$ask_boot_id" ] || [ "$ask_boot_id" = "$boot_now" ] || die boot 'has been rebooted meanwhile' 'doit status'
	loader_find
	argument=''
	[ "$loader" != raspberrypi ] || [ -z "$armed_entry" ] || argument='0 tryboot'
	sync
	systemd-run --quiet --collect -p DefaultDependencies=no -- sh -c \
		'sleep "$1"; if [ -n "$2" ]; then exec systemctl --no-block reboot --reboot-argument="$2"; fi; exec systemctl --no-block reboot' \
		reboot "${ask_delay:-1}" "$argument" 9>&- || die reboot 'cannot have systemd reboot it' 'systemctl status there'
	text boot_id "$boot_now"
}

dead_man() {  # by kbuild-deadman.service, early in each boot
	running
	recall trial && record_runs && [ "$r_timeout" -gt 0 ] || {
		text dead_man 'not needed'
		return
	}
	sleep "$r_timeout"
	recall trial && record_runs || {
		text dead_man 'settled'
		return
	}
	date +%s >"$state/deadman"
	log_event "reboots into the default: nobody verified the trial in $r_timeout s"
	# This unit ends as soon as the shutdown begins. What forces a reboot that hangs is none of that shutdown's own, and
	# waits for no disk: a sync may be what hangs.
	systemd-run --quiet --collect -p DefaultDependencies=no -p IgnoreOnIsolate=yes -- \
		sh -c 'sleep 120; echo b >/proc/sysrq-trigger' || log_event 'cannot force the reboot, should it hang'
	sync
	systemctl --no-block reboot
}
