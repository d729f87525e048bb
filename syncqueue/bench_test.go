package syncqueue_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/drover-cloud/drover/syncqueue"
)

func nop(context.Context) error { return nil }

func BenchmarkLocalDo(b *testing.B) {
	l := &syncqueue.Local{Env: silent()}
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Do(context.Background(), syncqueue.Key{Kind: "vm", ID: "42"}, nop)
	}
}

func BenchmarkLocalDo10000Keys(b *testing.B) {
	l := &syncqueue.Local{Env: silent()}
	keys := make([]syncqueue.Key, 10_000)
	for i := range keys {
		keys[i] = syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_ = l.Do(context.Background(), keys[i%len(keys)], nop)
	}
}

// One key, b.N tasks waiting in line.
func BenchmarkLocalGoOneKey(b *testing.B) { benchGo(b, 1) }

func BenchmarkLocalGo10000Keys(b *testing.B) { benchGo(b, 10_000) }

func benchGo(b *testing.B, n int) {
	l := &syncqueue.Local{Env: silent()}
	keys := make([]syncqueue.Key, n)
	for i := range keys {
		keys[i] = syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)}
	}
	var wg sync.WaitGroup
	wg.Add(b.N)
	f := func(context.Context) error { wg.Done(); return nil }
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		l.Go(context.Background(), keys[i%n], f)
	}
	wg.Wait()
}
