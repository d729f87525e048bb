package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// commits checks the records of conductors.
func commits(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"put once, get", commitOnce},
		{"rolled back with its transaction", commitUndone},
		{"conductor-27 purged by age, oldest first", commitPurge},
	})
}

func commitOnce(r *rig) {
	k := r.Commits()
	c := conductor.Commit{ID: "a", Host: "h1", Result: []byte("{\"x\":\"é\x00\"}")}
	put := func(ctx context.Context, tx store.Tx) error { return k.Put(ctx, tx, c) }
	in(r.t, r, put)
	if err := failing(r.t, r, put); !errors.Is(err, store.ErrConflict) {
		r.t.Fatalf("a second put: %v, want store.ErrConflict", err)
	}
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		got, err := k.Get(ctx, tx, "a")
		same(r.t, "commit", got, c)
		if _, none := k.Get(ctx, tx, "b"); !errors.Is(none, store.ErrNotFound) {
			r.t.Errorf("an unknown id: %v, want store.ErrNotFound", none)
		}
		return err
	})
}

func commitUndone(r *rig) {
	k := r.Commits()
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(k.Put(ctx, tx, conductor.Commit{ID: "a", Host: "h1", Result: []byte("x")}), errUndo)
	})
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := k.Get(ctx, tx, "a"); !errors.Is(err, store.ErrNotFound) {
			r.t.Errorf("after a rollback: %v, want store.ErrNotFound", err)
		}
		return nil
	})
}

func commitPurge(r *rig) {
	k := r.Commits()
	for n := range 5 {
		if n == 3 {
			r.pass(r.soon())
		}
		in(r.t, r, func(ctx context.Context, tx store.Tx) error {
			return k.Put(ctx, tx, conductor.Commit{ID: fmt.Sprint(n), Host: "h1", Result: []byte("x")})
		})
	}
	purge := func(age time.Duration, most, want int) {
		r.t.Helper()
		in(r.t, r, func(ctx context.Context, tx store.Tx) error {
			n, err := k.Purge(ctx, tx, age, most)
			same(r.t, "purged", n, want)
			return err
		})
	}
	purge(time.Hour, 10, 0)
	purge(r.soon()/2, 2, 2)
	purge(r.soon()/2, 10, 1)
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		_, err := k.Get(ctx, tx, "3")
		return err
	})
}
