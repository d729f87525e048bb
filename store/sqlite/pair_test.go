package sqlite_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// pair is two stores that must do the same.
type pair struct {
	*testing.T
	rnd    *rand.Rand
	clock  *clock
	both   [2]testkit.Stores // memory, sqlite
	token  [2]lease.Token
	ids    []string
	names  int
	narrow bool // claims are of one kind at times, and limits at most 1
}

func newPair(t *testing.T, seed uint64) *pair {
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	env := drover.Env{Clock: c}
	db := fixture.OpenSQLite(t, ":memory:")
	s := sqlite.New(db, sqlite.Config{Env: env})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &pair{T: t, rnd: rand.New(rand.NewPCG(seed, 1)), narrow: seed%2 == 0, clock: c, both: [2]testkit.Stores{&memory.Store{Env: env}, s}}
}

// same runs f on both and compares the answers.
func (p *pair) same(what string, f func(ctx context.Context, s testkit.Stores, i int, tx store.Tx) (any, error)) {
	p.Helper()
	var got [2]string
	for i, s := range p.both {
		err := s.InTx(p.Context(), func(ctx context.Context, tx store.Tx) error {
			v, err := f(ctx, s, i, tx)
			got[i] = text(v)
			return err
		})
		if err != nil {
			got[i] = "error"
			if what != "may fail" {
				p.Fatalf("%s: store %d: %v", what, i, err)
			}
		}
	}
	if got[0] != got[1] {
		p.Errorf("%s: %s", what, differ(got[0], got[1]))
	}
}

func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(b), "[]", "null")
}

// differ shows where two texts part.
func differ(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			from := max(0, i-50)
			return "\n" + strings.Join(as[from:i], "\n") + "\nmemory: " + as[i] + "\nsqlite: " + bs[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(as), len(bs))
}

// plain is a list of rows without what may differ: a grant and a claim may be one change or two.
func plain(rows []job.Row) []job.Row {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b job.Row) int { return cmp.Compare(a.Seq, b.Seq) })
	for i := range rows {
		rows[i].Rev = 0
		if len(rows[i].Identity) == 0 {
			rows[i].Identity = nil
		}
	}
	return rows
}

// compare looks at everything there is.
func (p *pair) compare(what string) {
	keys := []syncqueue.Key{{Kind: "vm", ID: "1"}, {Kind: "vm", ID: "2"}, {Kind: "host", ID: "1"}, {Kind: "host", ID: "2"}}
	p.same(what, func(ctx context.Context, s testkit.Stores, i int, tx store.Tx) (any, error) {
		f, err := s.Jobs().List(ctx, tx, job.Find{IDs: append([]string{}, p.ids...), Steps: true, Journal: true, Waits: true})
		for n := range f.Journal { // the rest of such an entry is the job's
			f.Journal[n].Mark, f.Journal[n].Resource, f.Journal[n].Topic = 0, "", ""
		}
		seen := []any{plain(f.Rows), f.Journal}
		for _, k := range keys {
			items, e := s.Queues().List(ctx, tx, syncqueue.Filter{Key: k})
			seen, err = append(seen, items), cmp.Or(err, e)
		}
		for _, q := range []syncqueue.Filter{{Keys: true}, {Kinds: true}, {Older: time.Second}} {
			items, e := s.Queues().List(ctx, tx, q)
			seen, err = append(seen, len(items), items), cmp.Or(err, e)
		}
		for _, q := range []*job.Query{{}, {Key: keys[2]}, {Root: "001"}, {Resource: "vm/3"}, {Text: "VM/1", Newest: true}, {States: []job.State{job.Failed}, Limit: 2}} {
			f, e := s.Jobs().List(ctx, tx, job.Find{Query: q})
			seen, err = append(seen, plain(f.Rows), f.Next), cmp.Or(err, e)
		}
		c := p.wants(i)
		c.Max = 0
		probe, e := s.Jobs().Claim(ctx, tx, c)
		probe.More = false // one may ask for a claim that then finds nothing
		repaired, e2 := s.Queues().Audit(ctx, tx, 100)
		if repaired != 0 {
			p.Errorf("%s: store %d: audit repaired %d", what, i, repaired)
		}
		return append(seen, probe), cmp.Or(err, e, e2)
	})
}
