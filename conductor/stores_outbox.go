package conductor

import (
	"context"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

type (
	sentArgs struct {
		Epoch int64
		IDs   []string
	}
	failArgs struct {
		Epoch    int64
		Failures []bus.OutboxFailure
	}
	waitingArgs struct {
		Dead  bool
		After int64
		Limit int
	}
)

var outboxMethods = tableOf("outbox",
	on("add", W, func(ctx context.Context, s bus.Outbox, tx store.Tx, rows []bus.Row) (none, error) {
		return none{}, s.Add(ctx, tx, rows)
	},
		rows(func(rows []bus.Row) (out []string) {
			for _, r := range rows {
				out = append(out, "outbox/"+r.ID)
			}
			return out
		}), allow(mayAdd)),
	on("claim", X, func(ctx context.Context, s bus.Outbox, tx store.Tx, c bus.OutboxClaim) (bus.OutboxClaimed, error) {
		return s.Claim(ctx, tx, c)
	}, again(func(bus.OutboxClaimed) string { return "" }, func(ctx context.Context, s bus.Outbox, tx store.Tx, c bus.OutboxClaim, _ string) (bus.OutboxClaimed, error) {
		return s.Claim(ctx, tx, c) // the same relay keeps its claim
	})),
	on("done", W, func(ctx context.Context, s bus.Outbox, tx store.Tx, a sentArgs) (none, error) {
		return none{}, s.Done(ctx, tx, a.Epoch, a.IDs)
	}),
	on("fail", W, func(ctx context.Context, s bus.Outbox, tx store.Tx, a failArgs) (none, error) {
		return none{}, s.Fail(ctx, tx, a.Epoch, a.Failures)
	}),
	on("list", R, func(ctx context.Context, s bus.Outbox, tx store.Tx, a waitingArgs) ([]bus.Row, error) {
		return s.List(ctx, tx, a.Dead, a.After, a.Limit)
	}),
)

type outbox struct{ f face }

var _ bus.Outbox = outbox{}

func (o outbox) Add(ctx context.Context, tx store.Tx, rows []bus.Row) error {
	return act(ctx, o.f, tx, outboxMethods["add"], rows)
}

func (o outbox) Claim(ctx context.Context, tx store.Tx, c bus.OutboxClaim) (bus.OutboxClaimed, error) {
	return do[bus.OutboxClaimed](ctx, o.f, tx, outboxMethods["claim"], c)
}

func (o outbox) Done(ctx context.Context, tx store.Tx, epoch int64, ids []string) error {
	return act(ctx, o.f, tx, outboxMethods["done"], sentArgs{epoch, ids})
}

func (o outbox) Fail(ctx context.Context, tx store.Tx, epoch int64, fs []bus.OutboxFailure) error {
	return act(ctx, o.f, tx, outboxMethods["fail"], failArgs{epoch, fs})
}

func (o outbox) List(ctx context.Context, tx store.Tx, dead bool, after int64, limit int) ([]bus.Row, error) {
	return do[[]bus.Row](ctx, o.f, tx, outboxMethods["list"], waitingArgs{dead, after, limit})
}
