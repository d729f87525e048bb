package main

import (
	"context"
	"log/slog"
	"os"
	"time"
)

// refusals is a logger that notes, in the ledger, the writes that the store refused because their run was superseded. Those
// that a node drops by itself are not among them: they prove nothing about the store.
type refusals struct {
	slog.Handler
	to   chan refusal
	done chan struct{}
}

type refusal struct {
	job   string
	epoch int64
	write string
}

const refusedText = "job lost: a write of an older run was refused"

func newRefusals(l *ledger) *refusals {
	r := &refusals{slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}), make(chan refusal, 1000), make(chan struct{})}
	go func() {
		defer close(r.done)
		for f := range r.to {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_ = l.write(ctx, `INSERT INTO chaos_refused VALUES ($1, $2, $3, $4)`, f.job, f.epoch, f.write, l.worker)
			cancel()
		}
	}()
	return r
}

func (r *refusals) close() { close(r.to); <-r.done }

func (r *refusals) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Message == refusedText {
		var f refusal
		rec.Attrs(func(a slog.Attr) bool {
			switch a.Key {
			case "job":
				f.job = a.Value.String()
			case "epoch":
				f.epoch = a.Value.Int64()
			case "write":
				f.write = a.Value.String()
			}
			return true
		})
		if f.write == "finish" || f.write == "refused" {
			select {
			case r.to <- f:
			default:
			}
		}
	}
	return r.Handler.Handle(ctx, rec)
}

func (r *refusals) WithAttrs(as []slog.Attr) slog.Handler {
	return &refusals{r.Handler.WithAttrs(as), r.to, r.done}
}
func (r *refusals) WithGroup(name string) slog.Handler {
	return &refusals{r.Handler.WithGroup(name), r.to, r.done}
}
