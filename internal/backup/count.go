package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// Tally says what an etcd snapshot of a cluster holds.
type Tally struct {
	// Revision is etcd's, Keys is how many keys are alive.
	Revision, Keys int64
	// Objects counts those of each resource, by the name that etcd has for it, such as pods, services/specs or
	// example.com/widgets.
	Objects map[string]int64
}

// Total is the number of all objects.
func (t Tally) Total() int64 {
	var total int64
	for _, n := range t.Objects {
		total += n
	}
	return total
}

const (
	// Registry is where the API server keeps every object.
	Registry = "/registry/"
	// revisionSize is that of a key in etcd's database: two numbers and a '_'; a tombstone has one byte more.
	revisionSize = 17
)

// Count reads the snapshot in the file at path, which must have been proven. It holds every key in memory, but no value.
func Count(ctx context.Context, path string) (Tally, error) {
	t, err := count(ctx, path)
	if err != nil {
		return Tally{}, fmt.Errorf("cannot count what the snapshot holds: %w", err)
	}
	return t, nil
}

func count(ctx context.Context, path string) (t Tally, err error) {
	// bbolt makes a file that is missing, even to read it alone.
	if _, err := os.Stat(path); err != nil {
		return t, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t.Objects = map[string]int64{}
	err = db.View(func(tx *bbolt.Tx) error {
		revisions := tx.Bucket([]byte("key"))
		if revisions == nil {
			return errors.New("it is no database of etcd")
		}
		if meta := tx.Bucket([]byte("meta")); meta != nil {
			// Compaction may have removed the tombstone that was the last change.
			if at := meta.Get([]byte("finishedCompactRev")); len(at) >= revisionSize {
				t.Revision = int64(binary.BigEndian.Uint64(at))
			}
		}
		alive := map[string]struct{}{}
		// From the oldest change to the newest.
		err := revisions.ForEach(func(at, change []byte) error {
			if len(at) < revisionSize {
				return errors.New("it holds a change without a revision")
			}
			t.Revision = max(t.Revision, int64(binary.BigEndian.Uint64(at)))
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(change, &kv); err != nil {
				return fmt.Errorf("the change at revision %d cannot be read: %w", t.Revision, err)
			}
			if bytes.HasSuffix(at[revisionSize:], []byte("t")) {
				delete(alive, string(kv.Key))
			} else {
				alive[string(kv.Key)] = struct{}{}
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		t.Keys = int64(len(alive))
		for key := range alive {
			if r := ResourceOf(key); r != "" {
				t.Objects[r]++
			}
		}
		return nil
	})
	return t, err
}

// ResourceOf gives the name that etcd has for the resource of a key, "" for a key that holds no object.
func ResourceOf(key string) string {
	rest, ok := strings.CutPrefix(key, Registry)
	if !ok {
		return ""
	}
	parts := strings.SplitN(rest, "/", 3)
	// Groups have a dot; Services and their Endpoints share a folder.
	if len(parts) == 3 && (strings.Contains(parts[0], ".") || parts[0] == "services") {
		return parts[0] + "/" + parts[1]
	}
	if len(parts) < 2 {
		return ""
	}
	return parts[0]
}
