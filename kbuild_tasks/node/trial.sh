# One boot of the new kernel, and what becomes of it. The default stays what it was until commit.

arm() {
	recall known-good || die state 'has no record of its known-good kernel' 'run doit deploy again'
	running
	! denied "$ask_build" || die denied "does not try the build $ask_build again: $denied_why"
	units_enabled
	loader_needed
	load_build "$ask_build"
	entry=kbuild-$ask_build
	boot_files_whole
	modules_kept
	entry_complete
	default=$default_entry
	[ -n "$default" ] && entry_known "$default" || die default "has a default boot entry that does not exist: ${default:-none}" 'set one, then run doit deploy again'
	[ "$default" != "$entry" ] || [ "$build_id" = "$build_id_now" ] || die default "has $entry as its default though it was never verified" 'doit rollback'
	remember trial "$release" "$build_id" "$ask_build" "$entry" "$(date +%s)" "${ask_timeout:-900}"
	rm -f -- "$state/deadman"
	loader_call arm "$entry" || die loader "could not arm $entry: $loader_why"
	[ "$armed_entry" = "$entry" ] || die loader "was told to boot $entry once, and its loader says ${armed_entry:-nothing}" 'docs/bootloaders.md'
	[ "$default_entry" = "$default" ] || die default "has another default after arming: $default_entry" 'doit rollback'
	text armed "$armed_entry"
	text default "$default"
}

boot_files_whole() {  # what the loader will read is still what was installed
	local sum
	target=$boot_dir/kbuild/$ask_build
	sum=$(grep "  usr/lib/modules/$release/vmlinuz\$" "$state/installed/$ask_build" 2>/dev/null)
	[ -n "$sum" ] || die missing "has not installed the build $ask_build" 'run doit deploy again'
	forget_cached "$target/vmlinuz"
	holds "$target/vmlinuz" "${sum%% *}" || die files "has other bytes in $target/vmlinuz than were installed" 'run doit deploy again'
	if [ -f "$state/initrd/$ask_build" ]; then
		if [ -e "$target/initrd.img" ]; then
			holds "$target/initrd.img" "$(tail -n 1 "$state/initrd/$ask_build")" ||
				die files "has other bytes in $target/initrd.img than were made" 'run doit deploy again'
		fi
	fi
	entry_known "$entry" || die loader "has no boot entry $entry" 'run doit deploy again'
}

modules_kept() {  # those of the build are aside; an earlier helper named the copy otherwise
	local current
	[ ! -f "$kept/$ask_build/release" ] || return 0
	current=''
	[ ! -f "$state/current" ] || read -r current <"$state/current" || :
	[ "$current" = "$ask_build" ] && keep_modules "$ask_build" "$release" "$build_id" ||
		die missing "has not kept the modules of the build $ask_build" 'run doit deploy again'
}

entry_says_all() {
	case " $e_line " in
	*" panic=$ask_panic "*) ;;
	*) return 1 ;;
	esac
	case " $e_line " in
	*" kbuild.build=$ask_build "*) ;;
	*) return 1 ;;
	esac
}

entry_complete() {  # the entry reboots after a panic, after so many seconds, and says which build it boots
	local initrd
	entry_says_all || {
		initrd=''
		[ ! -s "$target/initrd.img" ] || initrd=$target/initrd.img
		trial_command_line "$ask_panic"
		loader_call add "$ask_build" "$target/vmlinuz" "$initrd" "$line" "$release (kbuild $ask_build)"
		entry_known "$entry"
	}
	entry_says_all || die loader "has an entry $entry without panic=$ask_panic or kbuild.build=$ask_build"
}

disarm() {
	loader_needed
	loader_call disarm
	[ -z "$armed_entry" ] || die loader "still boots $armed_entry once, though it was disarmed"
	[ ! -f "$state/trial" ] || remove_durably "$state/trial"  # the trial is over
	text armed ''
	text default "$default_entry"
}

commit() {
	running
	loader_needed
	if recall trial; then
		[ "$r_build" = "$ask_build" ] || die trial "tries another build: $r_build" 'doit status'
	elif ! { recall known-good && [ "$r_build" = "$ask_build" ]; }; then
		die trial "does not try the build $ask_build" 'run doit rollout'
	fi
	record_runs || die trial "does not run the build $ask_build but $release_now (build id $build_id_now)" 'run doit rollout'
	c_release=$r_release c_build_id=$r_build_id c_entry=$r_entry
	entry_known "$c_entry" || die loader "has no boot entry $c_entry any more" 'run doit deploy again'
	loader_call set_default "$c_entry" || die loader "could not make $c_entry the default: $loader_why"
	[ "$default_entry" = "$c_entry" ] || die default "was told to boot $c_entry by default, and its loader says ${default_entry:-nothing}"
	if recall known-good && [ "$r_build" != "$ask_build" ]; then
		remember previous "$r_release" "$r_build_id" "$r_build" "$r_entry"
	fi
	remember known-good "$c_release" "$c_build_id" "$ask_build" "$c_entry" "$(date +%s)"
	remember_signature "$ask_build"
	remove_durably "$state/trial"
	dead_man_off
	text default "$default_entry"
}

dead_man_off() {
	[ -n "$root" ] || ! systemctl --quiet is-active kbuild-deadman.service || systemctl stop kbuild-deadman.service || die state 'cannot stop kbuild-deadman.service' 'systemctl status there'
}

rollback() {  # the default is the known-good kernel's again (to=previous: the one before it); does not reboot
	case ${ask_to:-known-good} in
	known-good | previous) ;;
	*) die protocol 'was asked to roll back to neither known-good nor previous' ;;
	esac
	loader_needed
	loader_call disarm
	recall "${ask_to:-known-good}" || die state "has no record of a ${ask_to:-known-good} kernel" 'nothing was rolled out here'
	entry_known "$r_entry" || die loader "has no boot entry $r_entry any more" 'ls the boot directory there'
	[ "$default_entry" = "$r_entry" ] || loader_call set_default "$r_entry" || die loader "could not make $r_entry the default: $loader_why"
	[ "$default_entry" = "$r_entry" ] || die default "was told to boot $r_entry by default, and its loader says ${default_entry:-nothing}"
	if [ "${ask_to:-known-good}" = previous ]; then
		p_release=$r_release p_build_id=$r_build_id p_build=$r_build p_entry=$r_entry
		recall known-good && remember previous "$r_release" "$r_build_id" "$r_build" "$r_entry"
		remember known-good "$p_release" "$p_build_id" "$p_build" "$p_entry" "$(date +%s)"
		r_release=$p_release r_build_id=$p_build_id r_entry=$p_entry
	fi
	[ ! -f "$state/trial" ] || remove_durably "$state/trial"
	dead_man_off
	text default "$default_entry"
	text release "$r_release"
	text build_id "$r_build_id"
}
