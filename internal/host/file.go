package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/internal/fault"
)

// writeScript makes PATH from its input: PATH DIR TEMP MODE SHA256. The digest is checked first, because
// an input that was cut off looks like its end.
const writeScript = `path=$1 dir=$2 temp=$3 mode=$4 digest=$5
fail() { echo "$*" >&2; rm -f -- "$temp"; exit 1; }
if [ -d "$path" ] && [ ! -L "$path" ]; then fail "$path is a directory"; fi
[ -d "$dir" ] || mkdir -p -- "$dir" || exit 1
[ ! -e "$temp" ] && [ ! -L "$temp" ] || rm -f -- "$temp"
(umask 077; set -C; cat >"$temp") || fail "cannot write $temp"
found=$(sha256sum <"$temp")
[ "${found%% *}" = "$digest" ] || fail "the content arrived incomplete"
chmod "$mode" -- "$temp" && sync "$temp" && mv -fT -- "$temp" "$path" && sync "$dir" || fail "cannot write $path"
`

// WriteFileCommand gives the command that does Writer.WriteFile on a host.
func WriteFileCommand(name string, f File) (Command, error) {
	if err := checkPath(name); err != nil {
		return Command{}, fmt.Errorf("cannot write file: %w", err)
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
	}
	if mode&^(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
		return Command{}, fault.NewBug(fmt.Errorf("cannot write file %s: mode %v is no regular file's", name, mode))
	}
	dir, base := path.Split(name)
	sum := sha256.Sum256(f.Content)
	return Command{
		Argv: []string{"sh", "-c", writeScript, "write-file", name, path.Clean(dir), dir + "." + base + ".slipway-new",
			strconv.FormatUint(uint64(unixMode(mode)), 8), hex.EncodeToString(sum[:])},
		Stdin: bytes.NewReader(f.Content),
	}, nil
}

func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// removeScript deletes each path after looking where it really is: a parent may be a link, and a mount
// below it may be of the same file system, which rm alone would not notice.
const removeScript = `for path do
	base=${path##*/} dir=${path%/*}
	[ -e "$path" ] || [ -L "$path" ] || continue
	dir=$(cd -P -- "${dir:-/}" && pwd -P) || exit 1
	full=${dir%/}/$base
	case $full in
	/*/*) ;;
	*) echo "$path is the top-level directory $full" >&2; exit 1 ;;
	esac
	escaped=$(printf '%s' "$full" | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g')
	while read -r _ _ _ _ mount _; do
		case $mount in
		"$escaped" | "$escaped"/*) echo "$mount is a mount" >&2; exit 1 ;;
		esac
	done </proc/self/mountinfo
	rm -rf --one-file-system -- "$full" || exit 1
done
`

// RemoveCommand gives the command that does Writer.Remove on a host, or refuses the paths.
func RemoveCommand(paths []string) (Command, error) {
	for _, p := range paths {
		if err := CheckRemove(p); err != nil {
			return Command{}, err
		}
	}
	return Command{Argv: append([]string{"sh", "-c", removeScript, "remove"}, paths...)}, nil
}

// CheckRemove says why p must never be deleted: it is relative or not clean, "/", a directory right
// below it, or one of the directories that a system is made of.
func CheckRemove(p string) error {
	if err := checkPath(p); err != nil {
		return fmt.Errorf("cannot remove file: %w", err)
	}
	if strings.Count(p, "/") < 2 || slices.Contains(strings.Fields(systemDirectories), p) || strings.ContainsRune(p, '\n') {
		return fault.NewBug(fmt.Errorf("cannot remove %q: it belongs to the system", p))
	}
	return nil
}

const systemDirectories = `/boot/efi /boot/grub /boot/grub2 /dev/shm /etc/apt /etc/cron.d /etc/default /etc/modprobe.d
/etc/modules-load.d /etc/netplan /etc/network /etc/pam.d /etc/pki /etc/security /etc/ssh /etc/ssl /etc/sudoers.d
/etc/sysctl.d /etc/sysconfig /etc/systemd /etc/systemd/network /etc/systemd/system /etc/yum.repos.d
/run/lock /run/systemd /run/udev /usr/bin /usr/include /usr/lib /usr/lib/modules /usr/lib/systemd
/usr/lib/systemd/system /usr/lib32 /usr/lib64 /usr/libexec /usr/local /usr/local/bin /usr/local/lib /usr/local/sbin
/usr/sbin /usr/share /var/backups /var/cache /var/lib /var/lib/apt /var/lib/dpkg /var/lib/rpm /var/lib/systemd
/var/local /var/lock /var/log /var/mail /var/opt /var/run /var/spool /var/tmp`

func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) || p == "/" {
		return fault.NewBug(fmt.Errorf("%q is no clean absolute path of a file", p))
	}
	return nil
}

// readScript prints a regular file: PATH LIMIT. It ends with 3 when the file is missing, with 4 when it
// is something else.
const readScript = `[ -e "$1" ] || exit 3
[ -f "$1" ] || exit 4
exec head -c "$2" <"$1"
`

// FileQuery reads a regular file, for Reader.ReadFile; DecodeFile gives its content.
func FileQuery(name string) Query {
	q := newQuery("file", readScript, name, strconv.Itoa(MaxFile+1))
	q.max = MaxFile + 1
	q.err = checkPath(name)
	return q
}

// DecodeFile gives the content of a file from what its FileQuery left. The err is the query's own.
func DecodeFile(name string, r Result, err error) ([]byte, error) {
	var failed *CommandError
	switch {
	case err == nil && len(r.Stdout) > MaxFile:
		return nil, fmt.Errorf("cannot read file %s: it is larger than %d bytes", name, MaxFile)
	case err == nil:
		return r.Stdout, nil
	case errors.As(err, &failed) && failed.Result.ExitCode == 3:
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	case errors.As(err, &failed) && failed.Result.ExitCode == 4:
		return nil, fmt.Errorf("cannot read file %s: it is no regular file", name)
	default:
		return nil, fmt.Errorf("cannot read file %s: %w", name, err)
	}
}
