# The reboot, and the dead man: a trial that nobody verified in time goes back to the default by itself.

reboot_node() {
	running
	[ -z "$ask_boot_id" ] || [ "$ask_boot_id" = "$boot_now" ] || die boot 'has been rebooted meanwhile' 'doit status'
	loader_find
	argument=''
	[ "$loader" != raspberrypi ] || [ -z "$armed_entry" ] || argument='0 tryboot'
	sync
	delay=${ask_delay:-1} grace=${ask_grace:-120}
	if [ "$ask_force" = 1 ]; then
		# Outside of the shutdown's own transaction, so that it is still there when that hangs.
		systemd-run --quiet --collect -p DefaultDependencies=no -p IgnoreOnIsolate=yes -- \
			sh -c "sleep $((delay + grace)); sync; echo b >/proc/sysrq-trigger" 9>&- || die reboot 'cannot have systemd force the reboot'
	fi
	systemd-run --quiet --collect -p DefaultDependencies=no -- sh -c \
		'sleep "$1"; if [ -n "$2" ]; then exec systemctl --no-block reboot --reboot-argument="$2"; fi; exec systemctl --no-block reboot' \
		reboot "$delay" "$argument" 9>&- || die reboot 'cannot have systemd reboot it' 'systemctl status there'
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
	sync
	systemctl --no-block reboot
	sleep 120
	sync
	echo b >"$root/proc/sysrq-trigger"
}
