package ssh

import (
	"slipway.dev/slipway/internal/host"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	s := dialTest(t, startSSHD(t, "true"))
	w := s.Writer(host.Fence{Owner: "a", Epoch: 1})
	m := func(n string, f func()) {
		f()
		t0 := time.Now()
		for range 20 {
			f()
		}
		t.Log(n, time.Since(t0)/20)
	}
	m("run", func() { w.Run(t.Context(), host.Command{Argv: []string{"true"}}) })
	d := t.TempDir()
	m("write", func() { w.WriteFile(t.Context(), d+"/x", host.File{}) })
	m("stat", func() { s.Stat(t.Context(), d+"/x") })
	m("read", func() { s.ReadFile(t.Context(), d+"/x") })
	m("facts", func() { s.Facts(t.Context()) })
	m("bootid", func() { s.Query(t.Context(), host.BootID()) })
}
