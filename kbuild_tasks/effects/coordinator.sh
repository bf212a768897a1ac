# Prepares the coordinator: its workdir, as a tmpfs where the memory allows it. It runs no distccd: distcc runs its
# localhost slots directly. Values used, numbers first (core/buildmode.py has the reasons):
#   tmpfs      auto | off | bytes;  tmpfs_need: bytes that a build needs;  disk_need: free bytes, first build
#   disk_more: free bytes where a tree is already there;  builder: "uid:gid" that builds;  k3s_stop
# Answers as worker.sh does.

own() {  # own DIRECTORY: make it, and what misses above it, for the one that builds
	nearest "$1"
	if [ "$missing" -gt 0 ]; then
		mkdir -p -- "$1" || refuse workdir "$1"
		top=$1
		while [ "$missing" -gt 1 ]; do
			top=${top%/*} missing=$((missing - 1))
		done
		chown -R "$builder" -- "$top"
	fi
	[ "$(stat -c %u:%g -- "$1")" = "$builder" ] || [ "$(stat -c %u -- "$1")" = "${builder%:*}" ] || refuse owner "$1"
}

room() {  # room DIRECTORY: enough free space on the disk for a build?
	disk "$1"
	enough=$disk_need
	[ ! -d "$workdir/makepkg" ] || enough=$disk_more
	[ "$free" -ge "$enough" ] || refuse space "$1"
}

[ -n "$version" ] || refuse no-compiler
begin
case $tmpfs in
auto | off) ;;
*) [ "$tmpfs" -le "$memory" ] || refuse tmpfs-size ;;
esac
mount=no size=0 disk_why=''
is_tmpfs=no
real "$workdir"
[ "$fstype $target" != "tmpfs $real" ] || is_tmpfs=yes
if [ "$is_tmpfs" = yes ]; then
	size=$(stat -f -c '%b %S' -- "$workdir")
	size=$((${size% *} * ${size#* }))
	! ours_mounted "$workdir" || mount=yes
elif [ "$tmpfs" = off ]; then
	disk_why=off
elif [ "$tmpfs" != auto ]; then
	mount=yes size=$tmpfs
elif [ "$memory" -lt $((tmpfs_need * 2)) ] || [ "$available" -lt "$tmpfs_need" ]; then
	disk_why=memory
elif [ -n "$(ls -A -- "$workdir" 2>/dev/null)" ]; then
	disk_why=tree  # a tree is there already; mounting over it would compile everything again
else
	mount=yes size=$((memory / 2))
fi

restore=''
[ "$was_boot" != "$boot_id" ] || restore=$was_restore
[ "$k3s_stop:$k3s" != 1:active ] || restore="$restore${restore:+ }k3s-agent.service"
if [ "$mount" = yes ] || [ -n "$restore" ]; then
	remember "$record" "$boot_id" "$restore" "$mount" "$workdir" 0 ''
	rm -f -- "$kept"  # it tells of the same tmpfs
	[ "$is_tmpfs" = yes ] || forget_trees
	keep_leaver
fi
[ "$k3s_stop:$k3s" != 1:active ] || systemctl stop k3s-agent.service || refuse k3s

own "$workdir"
if [ "$mount" = yes ] && [ "$is_tmpfs" = no ]; then
	mount -t tmpfs -o "size=$size,mode=0755,uid=${builder%:*},gid=${builder#*:},nosuid,nodev" kbuild-tasks "$workdir" || {
		[ "$tmpfs" = auto ] || refuse mount
		mount=no size=0 disk_why=mount
	}
fi
own "$workdir.state"
[ "$size" -gt 0 ] || room "$workdir"
named
json=''
text cc "$cc"
text full "$full"
text disk_why "$disk_why"
text stopped "$restore"
tree=0  # should the run be over, what it has compiled stays
finish "$json\"jobs\": 0, \"tmpfs\": $size, \"port\": $port"
