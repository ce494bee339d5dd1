package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommand(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		// want is what was called, out what was printed; wantErr is part of the error.
		want, out, wantErr string
	}{
		"Run":              {reason: "without more it serves", args: []string{}, want: "run /data  ||"},
		"KeyDir":           {reason: "the key may lie elsewhere", args: []string{"--encryption-key-dir", "/keys"}, want: "run /data /keys ||"},
		"Certificate":      {reason: "certificate, key and root go together", args: []string{"--tls-cert", "c", "--tls-key", "k", "--tls-ca", "r"}, want: "run /data  c|k|r"},
		"NoKey":            {reason: "a certificate alone serves nothing", args: []string{"--tls-cert", "c"}, wantErr: "--tls-key"},
		"NoCertificate":    {reason: "nor does a key", args: []string{"--tls-key", "k"}, wantErr: "--tls-cert"},
		"OnlyCA":           {reason: "a root of nothing is a mistake", args: []string{"--tls-ca", "r"}, wantErr: "--tls-cert"},
		"TooMuchLog":       {reason: "below debug the libraries log Secrets", args: []string{"--log-level", "debug-4"}, wantErr: "--log-level"},
		"RotateKey":        {reason: "it says what comes next", args: []string{"rotate-key"}, want: "rotate /data ", out: "start the server"},
		"RotateKeyElse":    {reason: "the directories are the server's", args: []string{"rotate-key", "--data-dir", "/d", "--encryption-key-dir", "/k"}, want: "rotate /d /k", out: "/k/file has a new key"},
		"RotateKeyRefused": {reason: "a refusal is shown", args: []string{"rotate-key", "--data-dir", "/busy"}, want: "rotate /busy ", wantErr: "in use"},
		"RotateAdminToken": {reason: "it says what comes next", args: []string{"rotate-admin-token"}, want: "token /data", out: "/data/admin.token is new"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var called string
			var out bytes.Buffer
			cmd := New(Actions{
				Run: func(_ context.Context, o Options) error {
					called = "run " + o.DataDir + " " + o.EncryptionKeyDir + " " + o.TLSCert + "|" + o.TLSKey + "|" + o.TLSCA
					return nil
				},
				RotateKey: func(dataDir, keyDir string) (string, error) {
					called = "rotate " + dataDir + " " + keyDir
					if dataDir == "/busy" {
						return "", errors.New("in use")
					}
					return keyDir + "/file", nil
				},
				RotateAdminToken: func(dataDir string) error {
					called = "token " + dataDir
					return nil
				},
			}, &out, io.Discard, "/data")
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(c.args)
			err := cmd.ExecuteContext(t.Context())
			if (err != nil) != (c.wantErr != "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: error %v, want %q", c.reason, err, c.wantErr)
			}
			if diff := cmp.Diff(c.want, called); diff != "" {
				t.Errorf("%s: -want +got %s", c.reason, diff)
			}
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("%s: printed %q, want %q", c.reason, out.String(), c.out)
			}
		})
	}
}
