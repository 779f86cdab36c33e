package certificate

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// core writes what certmagic tells to our log, as details: what an operator must
// know is said by the keeper.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

var _ zapcore.Core = (*core)(nil)

// Enabled is that of the log at debug level.
func (c *core) Enabled(zapcore.Level) bool {
	return c.log.Enabled(context.TODO(), slog.LevelDebug) //nolint:forbidigo // zap has no context
}

// With adds fields to all entries.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, fields: append(append([]zapcore.Field{}, c.fields...), fields...)}
}

// Check takes entries when they are wanted.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes one entry.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field{}, c.fields...), fields...) {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields)+1)
	attrs = append(attrs, slog.String("said", e.Message))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.log.LogAttrs(context.TODO(), slog.LevelDebug, "acme", attrs...) //nolint:forbidigo // zap has no context
	return nil
}

// Sync has nothing to wait for.
func (c *core) Sync() error { return nil }
