package gateway

import (
	"context"
	"sync"
)

type notesKey struct{}

// notes is what a route adds to its line in the audit log.
type notes struct {
	mu     sync.Mutex
	actor  string
	detail map[string]string
}

func withNotes(ctx context.Context) context.Context {
	return context.WithValue(ctx, notesKey{}, &notes{})
}

func notesOf(ctx context.Context) *notes {
	n, _ := ctx.Value(notesKey{}).(*notes)
	return n
}

// Note adds a fact to the line of this request in the audit log, never a secret. Outside a route it does nothing.
func Note(ctx context.Context, key, value string) {
	n := notesOf(ctx)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.detail == nil {
		n.detail = map[string]string{}
	}
	n.detail[key] = value
}

// NoteActor says who a request is about that comes before login.
func NoteActor(ctx context.Context, identity string) {
	if n := notesOf(ctx); n != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.actor = identity
	}
}
