package secret

import (
	"context"
	"fmt"
	"log/slog"
)

// Handler gives a slog.Handler that takes known values out of messages and attributes before next sees them.
func (s *Set) Handler(next slog.Handler) slog.Handler { return &handler{set: s, next: next} }

type handler struct {
	set  *Set
	next slog.Handler
}

// Enabled asks the next handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle passes a redacted copy of the record on.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	clean := slog.NewRecord(record.Time, record.Level, h.set.Redact(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attribute(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs redacts what the set knows now; later values are not looked for in these attributes.
func (h *handler) WithAttrs(attributes []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attributes))
	for i, a := range attributes {
		clean[i] = h.attribute(a)
	}
	return &handler{set: h.set, next: h.next.WithAttrs(clean)}
}

// WithGroup opens a group in the next handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{set: h.set, next: h.next.WithGroup(name)}
}

func (h *handler) attribute(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, h.set.Redact(a.Value.String()))
	case slog.KindGroup:
		members := a.Value.Group()
		clean := make([]slog.Attr, len(members))
		for i, m := range members {
			clean[i] = h.attribute(m)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(clean...)}
	case slog.KindAny:
		// A value of any type prints in ways we cannot see; its text form is the one we can clean.
		if raw, ok := a.Value.Any().([]byte); ok {
			return slog.String(a.Key, h.set.Redact(string(raw)))
		}
		return slog.String(a.Key, h.set.Redact(fmt.Sprintf("%+v", a.Value.Any())))
	default:
		return a
	}
}
