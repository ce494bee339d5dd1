package controlplane

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// routeLogs sends what the libraries log to our logger. Their loggers are global to the process, which is one
// reason why a process runs one control plane at a time.
//
// Kubernetes ends the process when it cannot go on. Here it ends the goroutine that says so instead, and fatal
// hears why: the caller stops in good order, or is stopping already.
func routeLogs(logger *slog.Logger, stopping *atomic.Bool, fatal func(reason string)) {
	last := &atomic.Pointer[string]{}
	klog.SetLogger(logr.FromSlogHandler(demote{logger.With("component", "kubernetes").Handler(), stopping, last}))
	klog.OsExit = func(int) {
		reason := "no reason was logged"
		if message := last.Load(); message != nil {
			reason = *message
		}
		fatal(reason)
		runtime.Goexit()
	}
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(discard{}, discard{}, discard{}))
}

// demote lowers every record by one level: what a library calls an error is a warning to us, since it retries,
// and what it calls information is for debugging. Once we are stopping everything is for debugging, since the
// libraries complain of each connection that goes.
type demote struct {
	slog.Handler
	stopping *atomic.Bool
	last     *atomic.Pointer[string]
}

func (d demote) lower(level slog.Level) slog.Level {
	if d.stopping.Load() {
		return slog.LevelDebug
	}
	return level - (slog.LevelInfo - slog.LevelDebug)
}

// Enabled says whether Handle wants to see a record: also those that are too low to pass on, since klog logs
// why it ends the process as information.
func (d demote) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle remembers the record's message and passes the demoted record on when that is wanted.
func (d demote) Handle(ctx context.Context, record slog.Record) error {
	d.last.Store(&record.Message)
	record.Level = d.lower(record.Level)
	if !d.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return d.Handler.Handle(ctx, record)
}

// WithAttrs keeps the demotion on a handler with more attributes.
func (d demote) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demote{d.Handler.WithAttrs(attrs), d.stopping, d.last}
}

// WithGroup keeps the demotion on a handler with a group.
func (d demote) WithGroup(name string) slog.Handler {
	return demote{d.Handler.WithGroup(name), d.stopping, d.last}
}

type discard struct{}

// Write drops what it is given.
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// zapLogger gives etcd a logger that writes to ours, demoted like Kubernetes' own.
func zapLogger(ctx context.Context, logger *slog.Logger, stopping *atomic.Bool) *zap.Logger {
	return zap.New(&zapCore{ctx: ctx, handler: demote{logger.With("component", "etcd").Handler(), stopping, &atomic.Pointer[string]{}}})
}

type zapCore struct {
	ctx     context.Context // zap passes none with a record
	handler slog.Handler
	fields  []zapcore.Field
}

// Enabled says whether a record of this level is wanted.
func (c *zapCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(c.ctx, slogLevel(level))
}

// With gives a core whose records carry these fields too.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{ctx: c.ctx, handler: c.handler, fields: slices.Concat(c.fields, fields)}
}

// Check adds this core to an entry that it wants.
func (c *zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write passes an entry on.
func (c *zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range slices.Concat(c.fields, fields) {
		field.AddTo(encoder)
	}
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, 0)
	for key, value := range encoder.Fields {
		record.AddAttrs(slog.Any(key, value))
	}
	return c.handler.Handle(c.ctx, record)
}

// Sync has nothing to flush.
func (c *zapCore) Sync() error { return nil }

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.ErrorLevel:
		return slog.LevelError
	case level >= zapcore.InfoLevel: // its warnings too: it gives several at each start about nothing
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
