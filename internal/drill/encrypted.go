package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"slipway.dev/slipway/internal/backup"
	"slipway.dev/slipway/internal/fault"
)

// sealed begins what an API server has encrypted before it gave it to etcd: provider and name of the key.
var sealed = regexp.MustCompile(`^k8s:enc:([a-z0-9]{1,30}):v[0-9]{1,3}:([A-Za-z0-9._-]{1,63}):`)

// sealedPage is how many objects of a resource are looked at at once.
const sealedPage = 200

// why says that what could not be proven is encrypted at rest, where it is: a person gave the API servers a key that is in no
// backup. Other errors stay as they are.
func (d *drill) why(ctx context.Context, etcd clientv3.KV, err error) error {
	if fault.ReasonOf(err) != ReasonUnproven {
		return err
	}
	what, lookErr := encrypted(ctx, etcd, slices.Sorted(maps.Keys(d.job.Want.Objects)), d.job.Want.Revision)
	if lookErr != nil || what == "" {
		return errors.Join(err, lookErr)
	}
	return fault.NewTerminal(ReasonUnproven, "keep the file of --encryption-provider-config elsewhere, and bring a backup back only where the API servers have it; or take the flag away, write every object anew, and back up again",
		fmt.Errorf("%s at rest by a key that somebody gave the API servers by hand; it is not in the backup, which can be read by nobody without it: %w", what, err))
}

// encrypted says which of some resources, by etcd's names, has an object that is encrypted, and how; "" when none has.
func encrypted(ctx context.Context, etcd clientv3.KV, resources []string, revision int64) (string, error) {
	for _, name := range resources {
		prefix := backup.Registry + name + "/"
		for from := prefix; from != ""; {
			page, err := etcd.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(sealedPage), clientv3.WithRev(revision))
			if err != nil {
				return "", fmt.Errorf("cannot look whether the %s are encrypted: %w", name, err)
			}
			from = ""
			for _, kv := range page.Kvs {
				if m := sealed.FindSubmatch(kv.Value); m != nil {
					return fmt.Sprintf("the %s are encrypted (%s, key %s)", name, m[1], m[2]), nil
				}
				if page.More {
					from = string(kv.Key) + "\x00"
				}
			}
		}
	}
	return "", nil
}
