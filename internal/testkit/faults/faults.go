// Package faults holds what a simulated node's operations suffer, as a table of rules over operation names.
package faults

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"
)

// Kind of a rule.
type Kind uint8

const (
	Before Kind = iota // an error instead of the operation
	After              // the operation, then an error
	Delay              // the operation later
	Serialize
)

// Rule says that an operation that matches Pattern suffers a fault with probability P.
type Rule struct {
	Pattern  string // path.Match; "store.*" are all of the store
	Kind     Kind
	P        float64
	Err      error
	Min, Max time.Duration // of Delay
}

// Table is a list of rules; the first that strikes decides.
type Table struct{ rules []Rule }

// Set adds r in place of one of the same pattern and kind; P = 0 removes that. known are the operations there are.
func (t *Table) Set(r Rule, known []string) error {
	switch {
	case r.P < 0 || r.P > 1 || r.P != r.P:
		return fmt.Errorf("probability %v is not in 0…1", r.P)
	case r.Min < 0 || r.Max < r.Min:
		return fmt.Errorf("delay %v…%v: want 0 ≤ min ≤ max", r.Min, r.Max)
	}
	hit := false
	for _, op := range known {
		ok, err := path.Match(r.Pattern, op)
		if err != nil {
			return fmt.Errorf("operation %q: %w", r.Pattern, err)
		}
		hit = hit || ok
	}
	if !hit {
		return fmt.Errorf("operation %q matches none of %s", r.Pattern, strings.Join(known, " "))
	}
	for i, old := range t.rules {
		if old.Pattern == r.Pattern && old.Kind == r.Kind {
			t.rules = append(t.rules[:i], t.rules[i+1:]...)
			break
		}
	}
	if r.P > 0 {
		t.rules = append(t.rules, r)
	}
	return nil
}

// Strike draws for op: the first rule that strikes, if any. With delays false those are passed over.
func (t *Table) Strike(op string, delays bool, rng *rand.Rand) (Rule, bool) {
	for _, r := range t.rules {
		if r.Kind == Delay && !delays {
			continue
		}
		if ok, _ := path.Match(r.Pattern, op); ok && (r.P == 1 || rng.Float64() < r.P) {
			return r, true
		}
	}
	return Rule{}, false
}
