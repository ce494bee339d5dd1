package backup_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"slipway.dev/slipway/internal/backup"
)

// change is one change of one key, in etcd's own form.
type change struct {
	key     string
	deleted bool
}

// etcdDatabase writes a database whose revisions begin at first.
func etcdDatabase(t *testing.T, first, compacted uint64, changes ...change) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(revision uint64) []byte {
		b := binary.BigEndian.AppendUint64(nil, revision)
		return append(append(b, '_'), make([]byte, 8)...)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		if err := meta.Put([]byte("finishedCompactRev"), at(compacted)); err != nil {
			return err
		}
		bucket, err := tx.CreateBucket([]byte("key"))
		if err != nil {
			return err
		}
		for i, c := range changes {
			value, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(c.key), Value: []byte("v")})
			if err != nil {
				return err
			}
			key := at(first + uint64(i))
			if c.deleted {
				key = append(key, 't')
			}
			if err := bucket.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCount(t *testing.T) {
	cases := map[string]struct {
		reason           string
		first, compacted uint64
		changes          []change
		want             backup.Tally
	}{
		"objects of every kind": {reason: "groups have folders of their own, and what is no object is not counted", first: 7,
			changes: []change{{key: "/registry/pods/ns/a"}, {key: "/registry/pods/ns/b"}, {key: "/registry/services/specs/ns/s"}, {key: "/registry/services/endpoints/ns/s"},
				{key: "/registry/minions/n"}, {key: "/registry/example.com/widgets/ns/w"}, {key: "compact_rev_key"}},
			want: backup.Tally{Revision: 13, Keys: 7, Objects: map[string]int64{"pods": 2, "services/specs": 1, "services/endpoints": 1, "minions": 1, "example.com/widgets": 1}}},
		"changed and deleted": {reason: "an object counts once, whatever was done to it", first: 100,
			changes: []change{{key: "/registry/pods/ns/a"}, {key: "/registry/pods/ns/a"}, {key: "/registry/pods/ns/b"}, {key: "/registry/pods/ns/b", deleted: true},
				{key: "/registry/pods/ns/c"}, {key: "/registry/pods/ns/c", deleted: true}, {key: "/registry/pods/ns/c"}},
			want: backup.Tally{Revision: 106, Keys: 2, Objects: map[string]int64{"pods": 2}}},
		"compacted to the end": {reason: "the revision of etcd does not go back when its last change is forgotten", first: 5, compacted: 9,
			changes: []change{{key: "/registry/pods/ns/a"}}, want: backup.Tally{Revision: 9, Keys: 1, Objects: map[string]int64{"pods": 1}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := backup.Count(t.Context(), etcdDatabase(t, c.first, c.compacted, c.changes...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
	if _, err := backup.Count(t.Context(), filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a snapshot that is missing is counted")
	}
}
