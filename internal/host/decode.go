package host

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

func complete(what string, r Result) error {
	if r.Truncated {
		return fmt.Errorf("cannot read %s: the host printed more than was kept", what)
	}
	return nil
}

// DecodeDigests gives the SHA-256 in hexadecimal by path.
func DecodeDigests(r Result) (map[string]string, error) {
	if err := complete("digests", r); err != nil {
		return nil, err
	}
	digests := map[string]string{}
	for record := range bytes.SplitSeq(bytes.TrimSuffix(r.Stdout, []byte{0}), []byte{0}) {
		if len(record) == 0 {
			continue
		}
		sum, path, ok := strings.Cut(string(record), "  ")
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("cannot read digests: %q is no line of sha256sum", Clean(string(record), 100))
		}
		digests[path] = sum
	}
	return digests, nil
}

// DecodeTree gives what a Tree query found, in the order the host walked. The size of a directory is 0.
func DecodeTree(r Result) ([]FileInfo, error) {
	if err := complete("files", r); err != nil {
		return nil, err
	}
	if len(r.Stdout) == 0 {
		return nil, nil
	}
	fields := strings.Split(strings.TrimSuffix(string(r.Stdout), "\x00"), "\x00")
	if len(fields)%7 != 0 {
		return nil, fmt.Errorf("cannot read files: the answer has %d fields, which is no multiple of 7", len(fields))
	}
	files := make([]FileInfo, 0, len(fields)/7)
	for ; len(fields) > 0; fields = fields[7:] {
		f, err := decodeFile(fields[:7])
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// decodeFile reads type, octal mode, uid, gid, size, path and link target.
func decodeFile(fields []string) (FileInfo, error) {
	bad := func(what, value string) (FileInfo, error) {
		return FileInfo{}, fmt.Errorf("cannot read files: %q is no %s", Clean(value, 100), what)
	}
	types := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink, "s": fs.ModeSocket,
		"p": fs.ModeNamedPipe, "b": fs.ModeDevice, "c": fs.ModeDevice | fs.ModeCharDevice}
	mode, ok := types[fields[0]]
	if !ok {
		return bad("file type", fields[0])
	}
	bits, err := strconv.ParseUint(fields[1], 8, 12)
	if err != nil {
		return bad("mode", fields[1])
	}
	mode |= fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	uid, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		return bad("user", fields[2])
	}
	gid, err := strconv.ParseUint(fields[3], 10, 32)
	if err != nil {
		return bad("group", fields[3])
	}
	size, err := strconv.ParseInt(fields[4], 10, 64)
	if err != nil || size < 0 {
		return bad("size", fields[4])
	}
	if mode.IsDir() {
		size = 0
	}
	return FileInfo{Path: fields[5], Exists: true, Mode: mode, UID: int(uid), GID: int(gid), Size: size, Target: fields[6]}, nil
}

// EncodeTree prints files as a Tree or Stats query does, for sessions that answer from memory.
func EncodeTree(files []FileInfo) []byte {
	var b bytes.Buffer
	for _, f := range files {
		letter := "f"
		switch f.Mode.Type() {
		case fs.ModeDir:
			letter = "d"
		case fs.ModeSymlink:
			letter = "l"
		case fs.ModeSocket:
			letter = "s"
		case fs.ModeNamedPipe:
			letter = "p"
		}
		fmt.Fprintf(&b, "%s\x00%o\x00%d\x00%d\x00%d\x00%s\x00%s\x00", letter, unixMode(f.Mode), f.UID, f.GID, f.Size, f.Path, f.Target)
	}
	return b.Bytes()
}

// DecodeStats gives what is at each of the paths that a Stats query asked for, in their order.
func DecodeStats(r Result, paths []string) ([]FileInfo, error) {
	found, err := DecodeTree(r)
	if err != nil {
		return nil, err
	}
	byPath := make(map[string]FileInfo, len(found))
	for _, f := range found {
		byPath[f.Path] = f
	}
	files := make([]FileInfo, 0, len(paths))
	for _, p := range paths {
		f := byPath[p]
		f.Path = p
		files = append(files, f)
	}
	return files, nil
}

// Unit is what systemd knows of a unit.
type Unit struct {
	// ID is the unit's own name; an alias that was asked for gives the name behind it.
	ID string
	// LoadState is loaded, not-found, masked and so on.
	LoadState string
	// ActiveState is active, inactive, failed, activating and so on.
	ActiveState string
	// SubState is running, exited, dead and so on.
	SubState string
	// UnitFileState is enabled, disabled, static, masked, transient or empty.
	UnitFileState string
	// MainPID is 0 when nothing runs.
	MainPID int
	// Result is success, exit-code, signal, timeout and so on.
	Result string
	// ExitCode is the exit code of the main process once it has ended.
	ExitCode int
}

// DecodeUnits gives the units in the order they were asked for.
func DecodeUnits(r Result) ([]Unit, error) {
	if err := complete("units", r); err != nil {
		return nil, err
	}
	var units []Unit
	text := strings.TrimSpace(string(r.Stdout))
	if text == "" {
		return nil, nil
	}
	for block := range strings.SplitSeq(text, "\n\n") {
		var u Unit
		texts := map[string]*string{"Id": &u.ID, "LoadState": &u.LoadState, "ActiveState": &u.ActiveState,
			"SubState": &u.SubState, "UnitFileState": &u.UnitFileState, "Result": &u.Result}
		numbers := map[string]*int{"MainPID": &u.MainPID, "ExecMainStatus": &u.ExitCode}
		for line := range strings.SplitSeq(block, "\n") {
			key, value, _ := strings.Cut(line, "=")
			if p, ok := texts[key]; ok {
				*p = Clean(value, 256)
			}
			if p, ok := numbers[key]; ok {
				n, err := strconv.ParseInt(value, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("cannot read units: %q is no %s", Clean(value, 100), key)
				}
				*p = int(n)
			}
		}
		if u.ID == "" {
			return nil, fmt.Errorf("cannot read units: %q names none", Clean(block, 100))
		}
		units = append(units, u)
	}
	return units, nil
}

// DecodeSysctls gives the values by key; the fields of a value are parted by one space.
func DecodeSysctls(r Result) (map[string]string, error) {
	if err := complete("sysctls", r); err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(r.Stdout)) {
		key, value, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("cannot read sysctls: %q has no value", Clean(line, 100))
		}
		values[key] = strings.Join(strings.Fields(value), " ")
	}
	return values, nil
}

// DecodeModules gives the names of the loaded kernel modules.
func DecodeModules(r Result) ([]string, error) {
	if err := complete("modules", r); err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(r.Stdout)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names, nil
}

// Process is one running process.
type Process struct {
	PID int
	// Name is the kernel's short name of it.
	Name string
}

// DecodeProcesses gives the processes that a Processes query found.
func DecodeProcesses(r Result) ([]Process, error) {
	if err := complete("processes", r); err != nil {
		return nil, err
	}
	var found []Process
	for line := range strings.Lines(string(r.Stdout)) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		pid, err := strconv.ParseInt(id, 10, 32)
		if err != nil || name == "" {
			return nil, fmt.Errorf("cannot read processes: %q is none", Clean(line, 100))
		}
		found = append(found, Process{PID: int(pid), Name: name})
	}
	return found, nil
}

// Image is one image that containerd knows.
type Image struct {
	// Digest is that of the manifest or index, as sha256:HEX.
	Digest string
	// Labels are those of containerd, such as io.cri-containerd.pinned.
	Labels map[string]string
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// DecodeImages gives containerd's images by name.
func DecodeImages(r Result) (map[string]Image, error) {
	if err := complete("images", r); err != nil {
		return nil, err
	}
	images := map[string]Image{}
	for line := range strings.Lines(string(r.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "REF" {
			continue
		}
		if len(fields) < 4 || !digestPattern.MatchString(fields[2]) {
			return nil, fmt.Errorf("cannot read images: %q is no line of ctr", Clean(line, 100))
		}
		image := Image{Digest: fields[2], Labels: map[string]string{}}
		for pair := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if key, value, ok := strings.Cut(pair, "="); ok {
				image.Labels[key] = value
			}
		}
		images[fields[0]] = image
	}
	return images, nil
}

// DecodeHolder gives what a host remembers of its fence. A host that was released has an empty Owner but
// keeps its highest epoch until it reboots; a new claim takes an epoch above Epoch in every case.
func DecodeHolder(r Result) (Holder, error) {
	if err := complete("the holder of the host", r); err != nil {
		return Holder{}, err
	}
	var h Holder
	for line := range strings.Lines(string(r.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return Holder{}, fmt.Errorf("cannot read the holder of the host: %q is none", Clean(line, 100))
		}
		epoch, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
		if err != nil || epoch < 0 || epoch >= maxEpoch {
			return Holder{}, fmt.Errorf("cannot read the holder of the host: %q is no epoch", Clean(fields[len(fields)-1], 100))
		}
		h.Epoch = max(h.Epoch, epoch)
		if fields[0] == "holder" && len(fields) == 3 && ownerPattern.MatchString(fields[1]) {
			h.Owner = fields[1]
		} else if fields[0] != "epoch" || len(fields) != 2 {
			return Holder{}, fmt.Errorf("cannot read the holder of the host: %q is none", Clean(line, 100))
		}
	}
	return h, nil
}
