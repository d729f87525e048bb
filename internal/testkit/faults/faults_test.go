package faults_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/internal/testkit/faults"
)

var ops = []string{"store.tx.begin", "store.jobs.claim"}

func TestTable(t *testing.T) {
	var tb faults.Table
	rng := rand.New(rand.NewPCG(1, 1))
	for text, r := range map[string]faults.Rule{
		"not in 0…1":      {Pattern: "store.*", P: 1.5},
		"matches none of": {Pattern: "store.jobs.klaim", P: 1},
		"syntax error":    {Pattern: "store.[", P: 1},
		"min ≤ max":       {Pattern: "store.*", P: 1, Min: 2, Max: 1},
	} {
		if err := tb.Set(r, ops); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", r, err, text)
		}
	}
	boom := errors.New("boom")
	if err := tb.Set(faults.Rule{Pattern: "store.jobs.*", P: 1, Err: boom}, ops); err != nil {
		t.Fatal(err)
	}
	if r, ok := tb.Strike("store.jobs.claim", true, rng); !ok || r.Err != boom {
		t.Error("a certain fault did not strike")
	}
	if _, ok := tb.Strike("store.tx.begin", true, rng); ok {
		t.Error("a fault struck another operation")
	}
	if err := tb.Set(faults.Rule{Pattern: "store.jobs.*"}, ops); err != nil {
		t.Fatal(err)
	}
	if _, ok := tb.Strike("store.jobs.claim", true, rng); ok {
		t.Error("P = 0 did not end the fault")
	}
}
