package drill

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
)

// keyed is an etcd that gives two keys at a time.
type keyed struct {
	clientv3.KV
	values map[string]string
}

// Get gives the first of a range.
func (s keyed) Get(_ context.Context, from string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	asked := clientv3.OpGet(from, options...)
	var r etcdserverpb.RangeResponse
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if key < from || key >= string(asked.RangeBytes()) {
			continue
		}
		if r.More = len(r.Kvs) == 2; r.More {
			break
		}
		r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte(key), Value: []byte(s.values[key])})
	}
	return (*clientv3.GetResponse)(&r), nil
}

// TestWhy: a drill that fails since Secrets are encrypted at rest says so, and what to do; any other failure is said as it is.
func TestWhy(t *testing.T) {
	plain := map[string]string{"/registry/secrets/a/1": "k8s\x00", "/registry/secrets/a/2": "k8s\x00", "/registry/secrets/a/3": "k8s\x00", "/registry/pods/a/1": "k8s\x00"}
	with := func(key, value string) map[string]string {
		all := maps.Clone(plain)
		all[key] = value
		return all
	}
	unreadable := unproven("cannot read the secrets of the backup: no matching prefix found")
	cases := map[string]struct {
		reason string
		values map[string]string
		err    error
		want   string
	}{
		"not encrypted": {"something else is wrong", plain, unreadable, ""},
		"encrypted":     {"nobody can read it without the key", with("/registry/secrets/a/1", "k8s:enc:aescbc:v1:key1:\xff\x00"), unreadable, "the secrets are encrypted (aescbc, key key1) at rest by a key"},
		"the last one":  {"what is older than the key is not encrypted", with("/registry/secrets/b/1", "k8s:enc:kms:v2:my-kms:\x01"), unreadable, "the secrets are encrypted (kms, key my-kms)"},
		"another kind":  {"people choose what they encrypt", with("/registry/pods/b/1", "k8s:enc:secretbox:v1:k:\x01"), unreadable, "the pods are encrypted (secretbox, key k)"},
		"a name of it":  {"a value that holds the words is none that begins with them", with("/registry/pods/b/1", "x k8s:enc:aescbc:v1:k:"), unreadable, ""},
		"disk full":     {"it is not about the backup", with("/registry/secrets/a/1", "k8s:enc:aescbc:v1:key1:\xff"), fault.NewTransient("Full", errors.New("no room")), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := &drill{job: Job{Want: backup.Tally{Objects: map[string]int64{"secrets": 3, "pods": 1}}}}
			err := d.why(t.Context(), keyed{values: c.values}, c.err)
			if !errors.Is(err, c.err) || fault.ReasonOf(err) != fault.ReasonOf(c.err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q in it", c.reason, err, c.want)
			}
			if said := strings.Contains(err.Error(), "encrypted"); said != (c.want != "") || said && !strings.Contains(fault.FixOf(err), "--encryption-provider-config") {
				t.Errorf("%s: %v, fix %q", c.reason, err, fault.FixOf(err))
			}
		})
	}
}
