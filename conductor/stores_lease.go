package conductor

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

type (
	openArgs struct {
		Info    lease.Info
		Process string
		TTL     time.Duration
	}
	renewArgs struct {
		Token lease.Token
		Info  lease.Info
		TTL   time.Duration
	}
	nameArgs struct {
		Token lease.Token
		Name  string
	}
	takeArgs struct {
		Token lease.Token
		Name  string
		Due   time.Time
	}
	tookArgs struct {
		Epoch int64
		Wait  time.Duration
	}
	doneArgs struct {
		Name    string
		Epoch   int64
		Outcome string
	}
)

var leaseMethods = tableOf("lease",
	on("open", X, func(ctx context.Context, s lease.Store, tx store.Tx, a openArgs) (lease.Token, error) {
		return s.Open(ctx, tx, a.Info, a.Process, a.TTL)
	}, allow(mayOpen), check(hasOpened)),
	on("renew", W, func(ctx context.Context, s lease.Store, tx store.Tx, a renewArgs) (none, error) {
		return none{}, s.Renew(ctx, tx, a.Token, a.Info, a.TTL)
	}, live, rows(func(a renewArgs) []string { return sessionRow(a.Token) }), allow(func(g *grant, a renewArgs) error { return g.session(a.Token) })),
	on("close", W, func(ctx context.Context, s lease.Store, tx store.Tx, t lease.Token) (none, error) {
		return none{}, s.Close(ctx, tx, t)
	},
		rows(sessionRow), allow(func(g *grant, t lease.Token) error { return g.session(t) })),
	on("sweep", X, func(ctx context.Context, s lease.Store, tx store.Tx, most int) ([]lease.Token, error) {
		return s.Sweep(ctx, tx, most)
	}),
	on("list", R, func(ctx context.Context, s lease.Store, tx store.Tx, _ none) ([]lease.Info, error) {
		return s.List(ctx, tx)
	},
		rows(func(none) []string { return []string{"lease/"} })),
	on("acquire", X, func(ctx context.Context, s lease.Store, tx store.Tx, a nameArgs) (lease.Token, error) {
		return s.Acquire(ctx, tx, a.Token, a.Name)
	}, allow(mayAcquire)),
	on("release", W, func(ctx context.Context, s lease.Store, tx store.Tx, a nameArgs) (none, error) {
		return none{}, s.Release(ctx, tx, a.Token, a.Name)
	}, rows(func(nameArgs) []string { return []string{"lease/"} }), allow(mayRelease)),
)

var ledgerMethods = tableOf("ledger",
	on("take", X, func(ctx context.Context, s lease.LedgerStore, tx store.Tx, a takeArgs) (tookArgs, error) {
		epoch, wait, err := s.Take(ctx, tx, a.Token, a.Name, a.Due)
		return tookArgs{epoch, wait}, err
	}, allow(func(g *grant, a takeArgs) error { return firstErr(g.session(a.Token), g.ownName(a.Name)) })),
	on("done", W, func(ctx context.Context, s lease.LedgerStore, tx store.Tx, a doneArgs) (none, error) {
		return none{}, s.Done(ctx, tx, a.Name, a.Epoch, a.Outcome)
	}, rows(func(a doneArgs) []string { return []string{"due/" + a.Name} }), allow(func(g *grant, a doneArgs) error { return g.ownName(a.Name) })),
	on("last", R, func(ctx context.Context, s lease.LedgerStore, tx store.Tx, name string) (time.Time, error) {
		return s.Last(ctx, tx, name)
	},
		rows(func(name string) []string { return []string{"due/" + name} }), stamp(func(_ string, at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }),
		allow(func(g *grant, name string) error { return g.ownName(name) })),
)

// sessionRow also stands for List, which reads all.
func sessionRow(t lease.Token) []string { return []string{"lease/", fmt.Sprintf("lease/%d", t.Epoch)} }

type leases struct{ f face }

var _ lease.Store = leases{}

func (l leases) Open(ctx context.Context, tx store.Tx, i lease.Info, process string, ttl time.Duration) (lease.Token, error) {
	return do[lease.Token](ctx, l.f, tx, leaseMethods["open"], openArgs{i, process, ttl})
}

func (l leases) Renew(ctx context.Context, tx store.Tx, t lease.Token, i lease.Info, ttl time.Duration) error {
	return act(ctx, l.f, tx, leaseMethods["renew"], renewArgs{t, i, ttl})
}

func (l leases) Close(ctx context.Context, tx store.Tx, t lease.Token) error {
	return act(ctx, l.f, tx, leaseMethods["close"], t)
}

func (l leases) Sweep(ctx context.Context, tx store.Tx, most int) ([]lease.Token, error) {
	return do[[]lease.Token](ctx, l.f, tx, leaseMethods["sweep"], most)
}

func (l leases) List(ctx context.Context, tx store.Tx) ([]lease.Info, error) {
	return do[[]lease.Info](ctx, l.f, tx, leaseMethods["list"], none{})
}

func (l leases) Acquire(ctx context.Context, tx store.Tx, t lease.Token, name string) (lease.Token, error) {
	return do[lease.Token](ctx, l.f, tx, leaseMethods["acquire"], nameArgs{t, name})
}

func (l leases) Release(ctx context.Context, tx store.Tx, t lease.Token, name string) error {
	return act(ctx, l.f, tx, leaseMethods["release"], nameArgs{t, name})
}

type ledger struct{ f face }

var _ lease.LedgerStore = ledger{}

func (l ledger) Take(ctx context.Context, tx store.Tx, t lease.Token, name string, due time.Time) (int64, time.Duration, error) {
	got, err := do[tookArgs](ctx, l.f, tx, ledgerMethods["take"], takeArgs{t, name, due})
	return got.Epoch, got.Wait, err
}

func (l ledger) Done(ctx context.Context, tx store.Tx, name string, epoch int64, outcome string) error {
	return act(ctx, l.f, tx, ledgerMethods["done"], doneArgs{name, epoch, outcome})
}

func (l ledger) Last(ctx context.Context, tx store.Tx, name string) (time.Time, error) {
	return do[time.Time](ctx, l.f, tx, ledgerMethods["last"], name)
}
