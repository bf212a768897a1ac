#!/bin/sh
# Makes a disk image of a userland, without a mount and without a loop device: the partition table by sfdisk, the file
# systems by mke2fs -d and mtools. By vm_image.py, as root, in a directory that it may fill.
# Arguments: the userland, systemd-boot | grub | extlinux, PARTUUID and UUID of the root, bytes of the disk, the result.
set -eu
tree=$1
kind=$2
partuuid=$3
uuid=$4
bytes=$5
result=$6

sectors=$((bytes / 512))
boot_start=2048
boot_sectors=524288 # 256 MiB: several kernels, each with an initramfs
root_start=$((boot_start + boot_sectors))
case $kind in
	systemd-boot)
		end=$((sectors - 2048)) # the table's copy
		cat > table <<-EOF
			label: gpt
			start=$boot_start, size=$boot_sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=boot
			start=$root_start, size=$((end - root_start)), type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=$partuuid, name=root
		EOF
		;;
	grub)
		root_start=$boot_start boot_sectors=0
		cat > table <<-EOF
			label: dos
			label-id: 0x${partuuid%-*}
			start=$root_start, size=$((sectors - root_start)), type=83, bootable
		EOF
		;;
	extlinux)
		cat > table <<-EOF
			label: dos
			label-id: 0x${partuuid%-*}
			start=$boot_start, size=$boot_sectors, type=c, bootable
			start=$root_start, size=$((sectors - root_start)), type=83
		EOF
		;;
esac
end=${end:-$sectors}

mv "$tree/var/tmp/loader" loader
truncate -s "$bytes" disk
sfdisk --quiet disk < table

if [ "$boot_sectors" -gt 0 ]; then
	truncate -s $((boot_sectors * 512)) boot
	mkfs.vfat -F 32 -n BOOT -h "$boot_start" boot > /dev/null
	(cd "$tree/boot" && mcopy -s -m -i "$OLDPWD/boot" -- * ::)
	if [ "$kind" = extlinux ]; then
		cp boot "$tree/var/tmp/boot" # its own syslinux, as the modules there must be of the same version
		# It calls mtools with a path in /proc.
		# shellcheck disable=SC2016 # $1 is the inner shell's
		unshare --mount -- sh -c 'mount -t proc proc "$1/proc" &&
			chroot "$1" syslinux --install --directory extlinux /var/tmp/boot' sh "$tree"
		mv "$tree/var/tmp/boot" boot
	fi
	find "$tree/boot" -mindepth 1 -delete
	dd if=boot of=disk bs=1M seek=$((boot_start / 2048)) conv=notrunc,sparse status=none
fi
mke2fs -q -t ext4 -L root -U "$uuid" -m 1 -d "$tree" \
	-E "offset=$((root_start * 512)),lazy_itable_init=0,lazy_journal_init=0" disk $(((end - root_start) / 2))k

case $kind in
	grub)
		dd if=loader/boot.img of=disk bs=440 count=1 conv=notrunc status=none
		dd if=loader/core.img of=disk bs=512 seek=1 conv=notrunc status=none
		;;
	extlinux) dd if=loader/mbr.bin of=disk bs=440 count=1 conv=notrunc status=none ;;
esac
qemu-img convert -f raw -O qcow2 disk "$result"
