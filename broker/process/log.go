package process

import (
	"io"
	"log/slog"
)

// LogFlags say what is logged, and how. Lines go to standard error.
type LogFlags struct {
	LogLevel  string `help:"Lowest level to log: debug, info, warn or error. Default: info; warn for a development cluster." enum:",debug,info,warn,error" default:"" placeholder:"LEVEL"`
	LogFormat string `help:"Format of log lines: text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

// NewLogger returns the logger that the flags describe. level is used when
// --log-level is not given.
func (f LogFlags) NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	if f.LogLevel != "" {
		_ = level.UnmarshalText([]byte(f.LogLevel)) // the enum of the flag has checked it
	}
	opts := &slog.HandlerOptions{Level: level}
	if f.LogFormat != "json" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	// A duration would be a number of nanoseconds, which is hard to read.
	opts.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}
