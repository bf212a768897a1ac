#!/bin/sh
# Furnishes a freshly installed base image of the lab; run once inside it, as root, by kbuild_tasks/lab/base.py.
# Argument: debian | arch. No network is used. What differs from node to node is written by furnish.py.
set -eu
distribution=$1

# Users. The coordinator's builder comes later: its uid is that of the project's owner.
useradd --create-home --shell /bin/bash --system --uid 900 --user-group ansible
printf 'ansible ALL=(ALL:ALL) NOPASSWD: ALL\n' > /etc/sudoers.d/ansible
chmod 0440 /etc/sudoers.d/ansible

# sshd: keys only. A node's own host key is added when the node is made.
rm -f /etc/ssh/ssh_host_*
mkdir -p /etc/ssh/sshd_config.d
cat > /etc/ssh/sshd_config.d/lab.conf <<'EOF'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
MaxStartups 100
EOF
grep -q '^Include /etc/ssh/sshd_config.d/' /etc/ssh/sshd_config ||
    sed -i '1i Include /etc/ssh/sshd_config.d/*.conf' /etc/ssh/sshd_config

# Units: only what a node needs to be a node. distccd is started by the prepare stage, never by the system.
ssh_unit=ssh
[ "$distribution" = debian ] || ssh_unit=sshd
systemctl enable "$ssh_unit.service" > /dev/null 2>&1
for unit in distcc.service distccd.service systemd-networkd.service systemd-networkd.socket systemd-resolved.service \
    systemd-timesyncd.service; do
    if [ -e "/usr/lib/systemd/system/$unit" ] || [ -e "/lib/systemd/system/$unit" ]; then
        systemctl disable "$unit" > /dev/null 2>&1
    fi
done
# The network is set from outside, and nobody sits at the console.
systemctl mask --quiet systemd-networkd-wait-online.service console-getty.service getty.target \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer
if [ -e /etc/init.d/distcc ]; then
    update-rc.d distcc disable > /dev/null 2>&1
fi

# The project may lie below /tmp and is then bound there: systemd-tmpfiles must not empty that at boot.
mkdir -p /etc/tmpfiles.d
ln -s /dev/null /etc/tmpfiles.d/tmp.conf

# The project may lie below /root or another closed directory: passing through must be possible, listing need not.
chmod o+x /root
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id
mkdir -p /var/lib/pacman
pacman -Q > /dev/null 2>&1 || test -e /var/lib/pacman/local/ALPM_DB_VERSION # makes the database where there is none

# Packages as Arch makes them, quickly.
sed -i -e "s/^#\{0,1\}PKGEXT=.*/PKGEXT='.pkg.tar.zst'/" \
    -e 's/^#\{0,1\}COMPRESSZST=.*/COMPRESSZST=(zstd -c -T0 -3 -)/' /etc/makepkg.conf
grep -q "^PKGEXT='.pkg.tar.zst'" /etc/makepkg.conf || echo "PKGEXT='.pkg.tar.zst'" >> /etc/makepkg.conf
grep -q '^COMPRESSZST=' /etc/makepkg.conf || echo 'COMPRESSZST=(zstd -c -T0 -3 -)' >> /etc/makepkg.conf

if [ "$distribution" = debian ]; then
    # No repository to install from: what Debian installed is told to pacman by one real package that provides it,
    # so that `makepkg -s` resolves its makedepends honestly: what is not here stays unresolved.
    sed -i 's/^\[\(core\|extra\|community\)\]/#&/; s/^Include *= *\/etc\/pacman.d\/mirrorlist/#&/' /etc/pacman.conf
    work=$(mktemp -d /var/tmp/debian-provides.XXXXXX)
    {
        printf 'pkgname=debian-provides\npkgver=%s\npkgrel=1\narch=(any)\n' "$(cut -d. -f1 /etc/debian_version)"
        printf "pkgdesc='Names under which pacman knows what Debian installed here'\n"
        printf 'provides=(\n'
        # pacman's name, Debian's name
        while read -r name package; do
            version=$(dpkg-query -W -f='${db:Status-Abbrev} ${Version}' "$package" 2> /dev/null) || version=
            case $version in
                'ii '*)
                    version=${version#ii }
                    version=${version##* }
                    version=${version#*:}      # epoch
                    version=${version%-*}      # Debian's revision
                    printf "'%s=%s'\n" "$name" "$(printf %s "$version" | sed 's/[^A-Za-z0-9._+]/./g')"
                    ;;
            esac
        done <<'EOF'
bash bash
bc bc
binutils binutils
bison bison
ccache ccache
coreutils coreutils
cpio cpio
diffutils diffutils
distcc distcc
fakeroot fakeroot
file file
findutils findutils
flex flex
gcc gcc
gcc-libs libgcc-s1
git git
glibc libc6
gnupg gnupg
grep grep
gzip gzip
kmod kmod
libarchive libarchive13
libelf libelf-dev
m4 m4
make make
ncurses libncursesw6
openssl libssl-dev
pacman pacman-package-manager
patch patch
perl perl
python python3
rsync rsync
sed sed
sudo sudo
systemd systemd
tar tar
util-linux util-linux
xz xz-utils
zlib zlib1g
zstd zstd
EOF
        printf ')\n'
    } > "$work/PKGBUILD"
    chown -R nobody "$work"
    (cd "$work" && HOME=$work runuser -u nobody -- makepkg --nodeps --noconfirm)
    pacman -U --noconfirm "$work"/debian-provides-*.pkg.tar.zst
    rm -rf "$work"
    rm -rf /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
fi
