package host

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/internal/fault"
)

// chunkScript prints a part of a regular file: PATH SIZE NUMBER. It ends as readScript does.
const chunkScript = `[ -e "$1" ] || [ -L "$1" ] || exit 3
[ -f "$1" ] && [ ! -L "$1" ] || exit 4
exec dd if="$1" bs="$2" skip="$3" count=1 iflag=fullblock status=none
`

// Chunk asks for part n, counted from 0, of a regular file of any size: MaxFile bytes, fewer at its end, none behind it. A link
// is no regular file. DecodeFile gives its content.
func Chunk(name string, n int64) Query {
	q := newQuery("chunk", chunkScript, name, strconv.Itoa(MaxFile), strconv.FormatInt(n, 10))
	q.max = MaxFile
	q.err = checkPath(name)
	if n < 0 {
		q.err = fault.NewBug(fmt.Errorf("a file has no part %d", n))
	}
	return q
}

// Entry is one regular file right in a directory.
type Entry struct {
	Name string
	// Size is in bytes.
	Size     int64
	Modified time.Time
}

// Listing asks for the regular files right in a directory, hidden ones too; a missing directory has none. DecodeListing reads it.
func Listing(dir string) Query {
	q := newQuery("listing", `[ -d "$1" ] || exit 0
exec find "$1/" -mindepth 1 -maxdepth 1 -ignore_readdir_race -type f -printf '%f\0%s\0%T@\0'`, dir)
	q.max = 8 << 20
	q.err = checkPath(dir)
	return q
}

// DecodeListing gives what a Listing query found, in the order of the directory.
func DecodeListing(r Result) ([]Entry, error) {
	if err := complete("a directory", r); err != nil {
		return nil, err
	}
	if len(r.Stdout) == 0 {
		return nil, nil
	}
	const each = 3
	fields := strings.Split(strings.TrimSuffix(string(r.Stdout), "\x00"), "\x00")
	if len(fields)%each != 0 {
		return nil, fmt.Errorf("cannot read a directory: the answer has %d fields, which is no multiple of %d", len(fields), each)
	}
	var all []Entry
	for ; len(fields) > 0; fields = fields[each:] {
		size, err := strconv.ParseInt(fields[1], 10, 64)
		seconds, timeErr := strconv.ParseFloat(fields[2], 64)
		if err != nil || timeErr != nil || size < 0 || math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt32*100 || fields[0] != path.Base(fields[0]) {
			return nil, fmt.Errorf("cannot read a directory: %q, %q, %q is no file", Clean(fields[0], 100), Clean(fields[1], 100), Clean(fields[2], 100))
		}
		whole, part := math.Modf(seconds)
		all = append(all, Entry{Name: fields[0], Size: size, Modified: time.Unix(int64(whole), int64(part*float64(time.Second)))})
	}
	return all, nil
}

// EncodeListing prints files as a Listing query does, for sessions that answer from memory.
func EncodeListing(files []Entry) []byte {
	var b bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&b, "%s\x00%d\x00%d.%09d\x00", f.Name, f.Size, f.Modified.Unix(), f.Modified.Nanosecond())
	}
	return b.Bytes()
}
