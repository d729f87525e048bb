package limits_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/drover-cloud/drover/examples/refserver/limits"
)

func TestBuckets(t *testing.T) {
	now := clock.NewMock()
	b := limits.NewBuckets(now, 50, 100)
	for i := range 100 {
		if w := b.Take("a"); w != 0 {
			t.Fatalf("token %d: wait %v", i, w)
		}
	}
	if w := b.Take("a"); w != 20*time.Millisecond {
		t.Errorf("beyond the burst: wait %v", w)
	}
	if b.Take("b") != 0 {
		t.Error("another key has a bucket of its own")
	}
	now.Add(time.Second)
	taken := 0
	for b.Take("a") == 0 {
		taken++
	}
	if taken != 50 {
		t.Errorf("%d tokens in a second", taken)
	}
	for i := range 30_000 {
		b.Take(fmt.Sprint(i))
	}
	if (*limits.Buckets)(nil).Take("x") != 0 || limits.NewBuckets(now, 0, 9) != nil {
		t.Error("no limit limits")
	}
}

func TestFailures(t *testing.T) {
	now := clock.NewMock()
	f := limits.NewFailures(now, 3, time.Minute)
	for i := range 3 {
		if f.Blocked("a") != 0 {
			t.Fatalf("blocked after %d", i)
		}
		f.Failed("a")
	}
	if w := f.Blocked("a"); w != time.Minute || f.Blocked("b") != 0 {
		t.Errorf("blocked for %v", w)
	}
	now.Add(time.Minute)
	if f.Blocked("a") != 0 {
		t.Error("still blocked")
	}
	f.Failed("a")
	if f.Blocked("a") != 0 {
		t.Error("the old failures count")
	}
	(*limits.Failures)(nil).Failed("a")
}
