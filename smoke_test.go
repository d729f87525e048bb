package drover

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		boom := errors.New("boom")
		g.Add("a", Func(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
		g.Add("b", Func(func(ctx context.Context) error { time.Sleep(time.Second); return boom }))
		if err := g.Run(t.Context()); !errors.Is(err, boom) || err.Error() != "drover: b: boom" {
			t.Fatal(err)
		}
	})
}
