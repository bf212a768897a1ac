# Puts the helper, its two units and the sudoers line on a node, as root. Sent by sync (effects/node.py), or run there by
# the admin (python -m kbuild_tasks.node); a second time it changes nothing. Values used: helper_sha256; user: who may
# call the helper; sudoers: 1 writes the line. Payload: the helper. Answers {"helper": "new"|"fresh", "units": ..., "sudoers": "new"|"fresh"|"off", "signatures": "required"|"optional"}.

top=${setup_root:-}

refuse() {  # refuse WORD SENTENCE HINT
	rm -f -- "$top/usr/local/lib/kbuild-tasks/helper.new" "$top/etc/sudoers.d/.kbuild-tasks.new"
	printf 'refused: %s\t%s\t%s\n' "$2" "$3" "$1" >&2
	exit 3
}

safe() {  # safe DIRECTORY: nobody but root can put anything else there
	[ "$(stat -c %u -- "$1")" = 0 ] || refuse state "has a $1 that is not root's" "chown root: $1"
	case $(stat -c '%g %A' -- "$1") in
	*\ d???????w? | [!0]*\ d????w????) refuse state "has a $1 that others may write to" "chmod go-w $1" ;;
	esac
}

replace() {  # replace FILE MODE: by what is on stdin, whole or not at all; $changed becomes "new" if it was another
	cat >"$1.new" && chmod "$2" -- "$1.new" || refuse space-root "cannot write $1" 'df -h /'
	if cmp -s -- "$1.new" "$1" && [ "$(stat -c '%u %a' -- "$1")" = "0 ${2#0}" ]; then
		rm -f -- "$1.new"
	else
		chown 0:0 -- "$1.new" && sync -- "$1.new" && mv -T -- "$1.new" "$1" && sync -- "${1%/*}" || refuse space-root "cannot write $1" 'df -h /'
		changed=new
	fi
}

put_helper() {
	folder=$top/usr/local/lib/kbuild-tasks
	mkdir -p -- "$folder" || refuse state "cannot make $folder" 'is / writable?'
	safe "$top/usr/local"
	safe "$top/usr/local/lib"
	safe "$folder"
	cat >"$folder/helper.new" || refuse space-root "cannot write $folder/helper" 'df -h /'
	sum=$(sha256sum -- "$folder/helper.new")
	[ "${sum%% *}" = "$helper_sha256" ] || refuse damaged 'got the helper with other bytes than were sent' 'run doit sync again'
	sh -n "$folder/helper.new" || refuse damaged 'has a sh that cannot read the helper' 'sh should be dash, bash or busybox'
	changed=fresh
	mv -T -- "$folder/helper.new" "$folder/helper.got"
	replace "$folder/helper" 0755 <"$folder/helper.got"
	rm -f -- "$folder/helper.got"
	helper=$changed
	mkdir -p -- "$top/var/lib/kbuild-tasks/rollout" && chmod 0700 -- "$top/var/lib/kbuild-tasks/rollout"
}

put_units() {
	units=none
	[ -d "$top/etc/systemd/system" ] || return 0
	changed=fresh
	replace "$top/etc/systemd/system/kbuild-modules.service" 0644 <<-'END'
		[Unit]
		Description=Modules of the kernel that runs (kbuild-tasks)
		Documentation=file:/usr/local/lib/kbuild-tasks/helper
		DefaultDependencies=no
		Conflicts=shutdown.target
		After=systemd-remount-fs.service
		Before=systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service sysinit.target shutdown.target
		RequiresMountsFor=/usr/lib/modules
		ConditionPathExists=/usr/lib/modules.kbuild

		[Service]
		Type=oneshot
		RemainAfterExit=yes
		ExecStart=/usr/local/lib/kbuild-tasks/helper
		StandardInput=data
		StandardInputText=boot-modules\n

		[Install]
		WantedBy=sysinit.target
	END
	replace "$top/etc/systemd/system/kbuild-deadman.service" 0644 <<-'END'
		[Unit]
		Description=Back to the default if nobody verifies the kernel on trial (kbuild-tasks)
		Documentation=file:/usr/local/lib/kbuild-tasks/helper
		DefaultDependencies=no
		Conflicts=shutdown.target
		Before=shutdown.target
		RequiresMountsFor=/var/lib/kbuild-tasks
		ConditionPathExists=/var/lib/kbuild-tasks/rollout/trial

		[Service]
		Type=exec
		ExecStart=/usr/local/lib/kbuild-tasks/helper
		StandardInput=data
		StandardInputText=dead-man\n

		[Install]
		WantedBy=sysinit.target
	END
	for unit in modules:sysinit deadman:sysinit; do
		wants=$top/etc/systemd/system/${unit#*:}.target.wants
		mkdir -p -- "$wants"
		link=$wants/kbuild-${unit%:*}.service
		[ "$(readlink -- "$link")" = "../kbuild-${unit%:*}.service" ] || { ln -sfn -- "../kbuild-${unit%:*}.service" "$link" && changed=new; }
	done
	units=$changed
	if [ "$units" = new ] && [ -z "$top" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

put_sudoers() {
	line=off
	[ "$sudoers" = 1 ] || return 0
	case $user in
	root) return 0 ;;
	'' | *[!a-z0-9_-]* | [!a-z_]*) refuse protocol 'was given a user that is none' 'ssh.user in cluster.yaml' ;;
	esac
	[ -d "$top/etc/sudoers.d" ] || refuse state 'has no /etc/sudoers.d' 'install sudo there'
	new=$top/etc/sudoers.d/.kbuild-tasks.new  # sudo does not read names with a dot
	printf '%s ALL=(root) NOPASSWD: /usr/local/lib/kbuild-tasks/helper ""\n' "$user" >"$new" && chmod 0440 -- "$new" ||
		refuse space-root 'cannot write to /etc/sudoers.d' 'df -h /'
	visudo -c -q -f "$new" || refuse state 'has a visudo that does not take our line' 'visudo -c there'
	changed=fresh
	replace "$top/etc/sudoers.d/kbuild-tasks" 0440 <"$new"
	rm -f -- "$new"
	[ -n "$top" ] || visudo -c -q || {
		rm -f -- "$top/etc/sudoers.d/kbuild-tasks"
		refuse state 'has broken sudoers files' 'visudo -c there'
	}
	line=$changed
}

put_helper
put_units
put_sudoers
signatures=optional
[ ! -e "$top/etc/kbuild-tasks/require-signature" ] || signatures=required
printf '{"helper": "%s", "units": "%s", "sudoers": "%s", "signatures": "%s"}\n' "$helper" "$units" "$line" "$signatures"
