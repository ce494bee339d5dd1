package backup

import (
	"errors"

	"slipway.dev/slipway/api/v1alpha1"
)

// NewStore gives the store that a BackupLocation names, but for a directory of hosts; keys are those of its Secret, and are only used for S3. It asks
// nothing of the store yet.
func NewStore(spec v1alpha1.BackupLocationSpec, keys S3Keys) (Store, error) {
	switch {
	case spec.Directory != nil:
		return NewDirectory(spec.Directory.Path), nil
	case spec.S3 != nil:
		s := spec.S3
		return NewS3(S3Config{Endpoint: s.Endpoint, Bucket: s.Bucket, Prefix: s.Prefix, Region: s.Region, VirtualStyle: s.AddressStyle == v1alpha1.S3VirtualStyle,
			CABundle: []byte(s.CABundle), Insecure: s.Insecure, Keys: keys})
	default:
		return nil, errors.New("cannot use a backup location that is neither a directory of the server nor S3")
	}
}
