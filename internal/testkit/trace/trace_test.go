package trace_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/trace"
)

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestLog(t *testing.T) {
	l := trace.New(start)
	l.Op(start.Add(12345678901), "n1/job/42", "store.jobs.finish", "42")
	l.Result("epoch=3", "ok")
	l.Op(start.Add(90*time.Minute), "n1", "store.tx.commit", "")
	l.Result("", "two\nlines")
	l.Mark(start.Add(26*time.Hour), "!! crash n1")
	want := []string{
		"T+00:00:12.345678901 n1/job/42 store.jobs.finish key=42 epoch=3 -> ok",
		"T+01:30:00.000000000 n1 store.tx.commit -> two lines",
		"T+26:00:00.000000000 !! crash n1",
	}
	sum := sha256.Sum256([]byte(strings.Join(want, "\n") + "\n"))
	if got := l.Lines(); !slices.Equal(got, append(want, "sha256 "+hex.EncodeToString(sum[:]))) {
		t.Errorf("got %q", got)
	}
}

func TestKeep(t *testing.T) {
	whole, short := trace.New(start), trace.New(start)
	short.Keep = 10
	for i := range 95 {
		for _, l := range []*trace.Log{whole, short} {
			l.Mark(start, fmt.Sprint("line ", i))
		}
	}
	if whole.Sum() != short.Sum() || short.Total() != 95 {
		t.Errorf("what is dropped must stay in the hash: %d lines", short.Total())
	}
	if got := short.Tail(2); got[0] != "T+00:00:00.000000000 line 93" || len(short.Tail(1000)) >= 20 {
		t.Errorf("kept %d, last %q", len(short.Tail(1000)), got)
	}
}

func TestDiff(t *testing.T) {
	a, b := trace.New(start), trace.New(start)
	for i := range 5 {
		a.Mark(start, fmt.Sprint("line ", i))
		b.Mark(start, fmt.Sprint("line ", i))
	}
	if d := trace.Diff(a, b); d != "" {
		t.Error(d)
	}
	b.Mark(start, "one more")
	if d := trace.Diff(a, b); !strings.Contains(d, "line 6:") || !strings.Contains(d, "once: (end of trace)") || !strings.Contains(d, "then: T+00:00:00.000000000 one more") {
		t.Error(d)
	}
}
