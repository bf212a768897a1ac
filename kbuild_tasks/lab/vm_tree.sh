# shellcheck shell=sh disable=SC2154 # $distribution is base.sh's
# What a VM has beyond a container; runs after base.sh in the same shell ($distribution is set), in the new root, with
# no network. What differs between the kinds of VM is done by vm_loader.sh, what differs from node to node comes in
# at the first boot: the initramfs unpacks the node's seed, a tar in QEMU's fw_cfg, before systemd starts.

# The address is the VM's own affair here.
systemctl enable systemd-networkd.service > /dev/null 2>&1
# What a node of a cluster does without, and an emulated processor takes long for.
systemctl mask --quiet dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
	sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount systemd-binfmt.service \
	systemd-network-generator.service systemd-sysusers.service systemd-update-utmp.service \
	systemd-update-utmp-runlevel.service
mkdir -p /etc/systemd/network
install -d -m 0700 -o ansible -g ansible /home/ansible/.ssh
printf 'LABEL=root / ext4 rw,relatime 0 1\n' > /etc/fstab
printf 'localhost\n' > /etc/hostname

# Without an identity yet: an empty machine id is also the mark that the seed is still to be unpacked.
# shellcheck disable=SC2016 # text of a script
seed='
seed=/sys/firmware/qemu_fw_cfg/by_name/opt/kbuild-lab/seed/raw
modprobe -q qemu_fw_cfg
if [ -e "$seed" ] && [ ! -s "$target/etc/machine-id" ]; then
	chroot "$target" tar -xpf - < "$seed" && sync
fi
'
if [ "$distribution" = debian ]; then
	# What a guest of QEMU needs, and no more: MODULES=most takes minutes to unpack and to make in an emulated guest.
	printf 'MODULES=list\nRESUME=none\n' > /etc/initramfs-tools/conf.d/lab
	printf '%s\n' virtio_pci virtio_blk virtio_net qemu_fw_cfg >> /etc/initramfs-tools/modules
	# These modules are loaded by name. udev, which looks at every device, would only take its time, some eight seconds
	# in an emulated guest: scripts of its names replace its own.
	scripts=/etc/initramfs-tools/scripts
	mkdir -p $scripts/init-top $scripts/init-bottom
	printf '#!/bin/sh\n' > $scripts/init-top/udev
	cat > $scripts/init-bottom/udev <<-'EOF'
		#!/bin/sh
		[ "$1" != prereqs ] || exit 0
		mount -n -o move /dev "${rootmnt:?}/dev"
		rm -rf /dev
		ln -s "${rootmnt:?}/dev" /dev
	EOF
	{
		# shellcheck disable=SC2016 # text of a script
		printf '#!/bin/sh\n[ "$1" != prereqs ] || exit 0\ntarget=$rootmnt\n'
		printf '%s' "$seed"
	} > $scripts/init-bottom/lab-seed
	chmod 0755 $scripts/init-top/udev $scripts/init-bottom/udev $scripts/init-bottom/lab-seed
	update-initramfs -u -k all
else
	mkdir -p /etc/initcpio/hooks /etc/initcpio/install
	printf 'run_latehook() {\ntarget=/new_root\n%s}\n' "$seed" > /etc/initcpio/hooks/lab-seed
	printf 'build() { add_module qemu_fw_cfg; add_runscript; }\n' > /etc/initcpio/install/lab-seed
	mkdir -p /etc/mkinitcpio.conf.d
	printf '%s\n' 'MODULES=(virtio_pci virtio_blk virtio_net)' \
		'HOOKS=(base udev modconf block filesystems fsck lab-seed)' > /etc/mkinitcpio.conf.d/lab.conf
	mkinitcpio -P
fi

# pacman checks signatures with a keyring of its own. Its key is the image's: making one takes an emulated guest long.
pacman-key --init
gpgconf --homedir /etc/pacman.d/gnupg --kill all
rm -f /etc/pacman.d/gnupg/S.*

# One name for the first kernel and its initramfs, whatever the distribution calls them.
mkdir -p /usr/share/kbuild-lab
for kernel in /boot/vmlinuz-*; do
	name=${kernel#/boot/vmlinuz-}
	for initrd in "/boot/initrd.img-$name" "/boot/initramfs-$name.img"; do
		[ ! -e "$initrd" ] || printf '%s\n' "$name" "${kernel#/boot/}" "${initrd#/boot/}" > /usr/share/kbuild-lab/kernel
	done
done
test -s /usr/share/kbuild-lab/kernel
