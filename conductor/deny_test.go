package conductor_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
)

func TestDeny(t *testing.T) {
	t.Run("conductor-16 every method fails", func(t *testing.T) {
		var log bytes.Buffer
		d := conductor.Deny(slog.New(slog.NewTextHandler(&log, nil)))
		told := 0
		d.OnDenied(func(string) { told++ })
		methods := 0
		for _, s := range []any{d.Jobs(), d.Queues(), d.Leases(), d.Ledger(), d.Tracker(), d.Outbox(), d.Members()} {
			v := reflect.ValueOf(s)
			for i := range v.NumMethod() {
				name, f := v.Type().Method(i).Name, v.Method(i)
				if name == "ClaimOnly" {
					continue
				}
				methods++
				args := make([]reflect.Value, f.Type().NumIn())
				for j := range args {
					args[j] = reflect.Zero(f.Type().In(j))
					if f.Type().In(j) == reflect.TypeFor[context.Context]() {
						args[j] = reflect.ValueOf(t.Context())
					}
				}
				out := f.Call(args)
				err, _ := out[len(out)-1].Interface().(error)
				if !errors.Is(err, conductor.ErrDenied) {
					t.Errorf("%T.%s: %v, want ErrDenied", s, name, err)
				}
			}
		}
		for range 3 {
			if err := d.InTx(t.Context(), func(context.Context, store.Tx) error { t.Error("ran"); return nil }); !errors.Is(err, conductor.ErrDenied) {
				t.Errorf("InTx: %v", err)
			}
		}
		if methods < 30 || told != methods+3 {
			t.Errorf("%d methods, %d told", methods, told)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d logged, want one per call site", n)
		}
		c, stop := d.Notifier().Wake("x")
		defer stop()
		select {
		case <-c:
			t.Error("a hint")
		default:
		}
	})
}
