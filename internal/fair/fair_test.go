package fair

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestOrderAndLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Keyed
		unlock, err := k.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		ctxs := make([]context.CancelFunc, 4)
		for i := range 4 {
			var ctx context.Context
			ctx, ctxs[i] = context.WithCancel(t.Context())
			go func() {
				u, err := k.Lock(ctx, "a")
				if err != nil {
					got = append(got, -i)
					return
				}
				got = append(got, i)
				u()
			}()
			synctest.Wait()
		}
		ctxs[2]()
		synctest.Wait()
		unlock()
		synctest.Wait()
		want := []int{-2, 0, 1, 3}
		for i := range want {
			if len(got) != 4 || got[i] != want[i] {
				t.Fatalf("served %v, want %v", got, want)
			}
		}
		if len(k.m) != 0 {
			t.Fatalf("%d keys left", len(k.m))
		}
		for _, c := range ctxs {
			c()
		}
	})
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	var l Lock
	if err := l.Lock(ctx); !errors.Is(err, why) {
		t.Fatalf("free lock, ended ctx: %v", err)
	}
}
