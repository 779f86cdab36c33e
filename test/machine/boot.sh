# boot.sh DIRECTORY GROUP SYSTEMD: systemd over a copy-on-write view of /.
set -eu
dir=$1 group=$2 systemd=$3
hybrid=no
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then hybrid=yes; fi
# With version 1 every controller is a tree of its own: containers need them.
if [ $hybrid = yes ]; then groups=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d); else groups=/sys/fs/cgroup; fi
for g in $groups; do
	mkdir -p "$g/$group"
	if [ -e "$g/cpuset.cpus" ]; then # or nobody may be in it
		cat "$g/cpuset.cpus" >"$g/$group/cpuset.cpus"
		cat "$g/cpuset.mems" >"$g/$group/cpuset.mems"
	fi
	echo $$ >"$g/$group/cgroup.procs"
done
mkdir -p "$dir/root" "$dir/top" "$dir/srv"
exec unshare --cgroup --mount --pid --uts --ipc --fork --kill-child sh -c '
set -eu
dir=$1 hybrid=$2 systemd=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$dir/top"
mkdir "$dir/top/upper" "$dir/top/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/top/upper,workdir=$dir/top/work" "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys || mount --rbind /sys sys
if [ "$hybrid" = yes ]; then
	mount -t tmpfs tmpfs sys/fs/cgroup
	for g in /sys/fs/cgroup/*/; do
		g=${g%/} name=${g##*/}
		[ ! -L "$g" ] || continue
		mkdir "sys/fs/cgroup/$name"
		case $name in
		unified) mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
		systemd) mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd ;;
		*) mount -t cgroup -o "$name" cgroup "sys/fs/cgroup/$name" ;;
		esac
	done
else
	mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
for d in run tmp dev; do mount -t tmpfs tmpfs "$d"; done
chmod 1777 tmp
for n in null zero full random urandom tty; do
	touch "dev/$n"
	mount --bind "/dev/$n" "dev/$n"
done
if [ -e /dev/fuse ]; then touch dev/fuse; mount --bind /dev/fuse dev/fuse; fi
mkdir dev/pts dev/shm
mount -t tmpfs tmpfs dev/shm
# A disk of its own: layers of images can'"'"'t lie on a copy-on-write view.
mount --bind "$dir/srv" srv
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx
# Nothing of this machine is started but what the test asks for.
rm -rf etc/systemd/system opt
mkdir -p etc/systemd/system opt var/log/journal
rm -rf var/log/journal
printf "[Unit]\nDescription=A machine for tests\nRequires=sockets.target dbus.socket\nAfter=sockets.target\nAllowIsolate=yes\n" >etc/systemd/system/machine.target
mkdir -p etc/systemd/journald.conf.d
printf "[Journal]\nStorage=volatile\nRateLimitBurst=0\n" >etc/systemd/journald.conf.d/machine.conf
mkdir old
pivot_root . old
umount -l /old
exec env -i container=binnacle-test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$systemd" --unit=machine.target --log-target=console --show-status=0
' machine "$dir" "$hybrid" "$systemd"
