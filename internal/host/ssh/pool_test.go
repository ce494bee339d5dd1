package ssh

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/fault"
)

// TestPoolTellsOfLogins: each use of a secret is told once, and who only shares a connection uses none.
func TestPoolTellsOfLogins(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	target := srv.start(t)
	target.Auth.Password, target.Credential = "right", "lab"
	var mu sync.Mutex
	var told []string
	type why struct{}
	pool := NewPool(func(context.Context, string) (Target, error) {
		mu.Lock()
		defer mu.Unlock()
		return target, nil
	})
	pool.Login = func(ctx context.Context, t Target, err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(t.Name, " ", t.Credential, " ", err == nil, " ", ctx.Value(why{})))
	}
	defer pool.Close()
	ctx := context.WithValue(t.Context(), why{}, "test")
	for range 5 {
		if _, err := pool.Session(ctx, "w1"); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	target.Auth.Password = "wrong"
	mu.Unlock()
	for range 5 {
		if _, err := pool.Session(ctx, "w1"); fault.ReasonOf(err) != ReasonLoginRefused {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"w1 lab true test", "w1 lab false test"}, told); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
