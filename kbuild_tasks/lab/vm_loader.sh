#!/bin/sh
# Makes a VM's userland one of a kind: installs the loader's packages, which vm_image.py had downloaded, and writes
# its configuration. Runs as root in a copy of the userland, without a network and without a disk; by vm_image.py.
# Arguments: debian | arch, systemd-boot | grub | extlinux, PARTUUID of the root, UUID of its file system.
# Leaves in /var/tmp/loader what vm_image.sh writes outside of the file systems.
set -eu
distribution=$1
kind=$2
partuuid=$3
uuid=$4
{
	read -r release
	read -r kernel
	read -r initrd
} < /usr/share/kbuild-lab/kernel
# no_timer_check: on a machine that has other things to do, an emulated timer comes too late for the kernel's test of it,
# which then panics ("IO-APIC + timer doesn't work!"). Under KVM kernels leave it out by themselves.
options="root=PARTUUID=$partuuid rw console=ttyS0 no_timer_check"
mkdir -p /var/tmp/loader

if [ "$distribution" = debian ]; then
	DEBIAN_FRONTEND=noninteractive dpkg --install "/var/cache/loaders/$kind"/*.deb
	rm -rf /var/cache/loaders
fi

systemd_boot() {
	for file in BOOT/BOOTX64.EFI systemd/systemd-bootx64.efi; do
		install -D -m 0644 /usr/lib/systemd/boot/efi/systemd-bootx64.efi "/boot/EFI/$file"
	done
	mkdir -p /boot/loader/entries
	printf 'type1\n' > /boot/loader/entries.srel
	printf 'default distribution.conf\ntimeout 0\nconsole-mode keep\n' > /boot/loader/loader.conf
	cat > /boot/loader/entries/distribution.conf <<-EOF
		title   $(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
		version $release
		linux   /$kernel
		initrd  /$initrd
		options $options
	EOF
}

# GRUB's own programs make all of it; they would ask grub-probe for the disk, which is not there yet: a stand-in tells
# them about it, for this once.
grub() {
	cat > /etc/default/grub <<-EOF
		GRUB_DEFAULT=saved
		GRUB_TIMEOUT=0
		GRUB_RECORDFAIL_TIMEOUT=0
		GRUB_DISTRIBUTOR=$(sed -n 's/^ID=//p' /etc/os-release)
		GRUB_CMDLINE_LINUX_DEFAULT=
		GRUB_CMDLINE_LINUX="${options#* }"
		# There is no screen: with a graphical terminal GRUB would wait for one for ever.
		GRUB_TERMINAL=console
		# A kernel without initramfs knows no UUID of a file system.
		GRUB_DISABLE_LINUX_UUID=true
		GRUB_DISABLE_LINUX_PARTUUID=false
		GRUB_DISABLE_OS_PROBER=true
		GRUB_DISABLE_RECOVERY=true
	EOF
	probe=$(command -v grub-probe) relative=$(command -v grub-mkrelpath)
	cp -p "$probe" /var/tmp/loader/probe
	cp -p "$relative" /var/tmp/loader/relative
	# shellcheck disable=SC2016 # text of a script
	printf '#!/bin/sh\nprintf "%%s\\n" "$1"\n' > "$relative"
	cat > "$probe" <<-EOF
		#!/bin/sh
		for word in "\$@"; do
			case \$word in
				--target=*) target=\${word#--target=} ;;
				-t*) target=\${word#-t} ;;
				device | fs | fs_uuid | fs_label | partuuid | partmap | abstraction | drive | compatibility_hint | hints_string)
					[ "\$last" != -t ] && [ "\$last" != --target ] || target=\$word
					;;
			esac
			last=\$word
		done
		case \$target in
			device) echo /dev/vda1 ;;
			fs) echo ext2 ;;
			fs_uuid) echo $uuid ;;
			partuuid) echo $partuuid ;;
			partmap) echo msdos ;;
			drive | compatibility_hint) echo '(hd0,msdos1)' ;;
			hints_string) echo '--hint-bios=hd0,msdos1' ;;
		esac
	EOF
	mkdir -p /boot/grub
	cp -r /usr/lib/grub/i386-pc /boot/grub/
	cp /usr/share/grub/unicode.pf2 /boot/grub/ 2> /dev/null || echo 'GRUB without its font'
	grub-editenv /boot/grub/grubenv create
	grub-mkimage --format i386-pc --prefix '(hd0,msdos1)/boot/grub' --output /var/tmp/loader/core.img \
		biosdisk part_msdos ext2 normal
	cp /usr/lib/grub/i386-pc/boot.img /var/tmp/loader/
	grub-mkconfig --output=/boot/grub/grub.cfg
	cp -p /var/tmp/loader/probe "$probe"
	cp -p /var/tmp/loader/relative "$relative"
	grep -q "/boot/$kernel" /boot/grub/grub.cfg
}

# SYSLINUX on a FAT file system, as only that can be installed without mounting one. It lies where extlinux expects
# itself, so that `extlinux --once=LABEL /boot/extlinux` works; but on FAT it reads syslinux/syslinux.cfg alone.
extlinux() {
	mkdir -p /boot/extlinux /boot/syslinux
	printf 'include /extlinux/extlinux.conf\n' > /boot/syslinux/syslinux.cfg
	cat > /boot/extlinux/extlinux.conf <<-EOF
		default distribution
		prompt 0
		timeout 1
		serial 0 115200

		label distribution
		  linux /$kernel
		  initrd /$initrd
		  append $options
	EOF
	mbr=$(find /usr/lib/SYSLINUX /usr/lib/syslinux -name mbr.bin 2> /dev/null | head -n 1)
	cp "$mbr" /var/tmp/loader/
}

case $kind in
	systemd-boot) systemd_boot ;;
	grub) grub ;;
	extlinux) extlinux ;;
esac
[ "$kind" = grub ] || printf 'LABEL=BOOT /boot vfat rw,relatime,umask=0022 0 2\n' >> /etc/fstab
