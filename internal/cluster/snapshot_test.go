package cluster_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"
	"testing/iotest"

	"slipway.dev/slipway/internal/cluster"
	"slipway.dev/slipway/internal/fault"
	"slipway.dev/slipway/internal/step"
)

func TestSnapshot_ChecksItsEnd(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	sum := sha256.Sum256(data)
	whole := append(bytes.Clone(data), sum[:]...)
	flipped := bytes.Clone(whole)
	flipped[1000] ^= 1
	cases := map[string]struct {
		reason string
		have   []byte
		want   string
	}{
		"whole":    {reason: "what etcd sent, with its checksum", have: whole},
		"flipped":  {reason: "one bit is another", have: flipped, want: step.ReasonEtcdSnapshotDamaged},
		"cut":      {reason: "the end is missing, and the stream ended well", have: whole[:len(whole)-40], want: step.ReasonEtcdSnapshotDamaged},
		"no sum":   {reason: "an old server sends none", have: data, want: step.ReasonEtcdSnapshotDamaged},
		"empty":    {reason: "nothing came at all", have: nil, want: step.ReasonEtcdSnapshotDamaged},
		"too much": {reason: "something follows the checksum", have: append(bytes.Clone(whole), 0), want: step.ReasonEtcdSnapshotDamaged},
	}
	for name, tc := range cases {
		for size, reader := range map[string]io.Reader{"at once": bytes.NewReader(tc.have), "byte by byte": iotest.OneByteReader(bytes.NewReader(tc.have)), "end with data": iotest.DataErrReader(bytes.NewReader(tc.have))} {
			t.Run(name+" "+size, func(t *testing.T) {
				got, err := io.ReadAll(cluster.Checked(t.Context(), io.NopCloser(reader)))
				if !bytes.Equal(got, tc.have) {
					t.Errorf("%s: %d bytes of %d came through", tc.reason, len(got), len(tc.have))
				}
				if tc.want == "" && err != nil || tc.want != "" && fault.ReasonOf(err) != tc.want {
					t.Errorf("%s: %v, want %q", tc.reason, err, tc.want)
				}
			})
		}
	}
}
