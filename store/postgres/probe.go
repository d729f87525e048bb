package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// probe answers what else a round should do.
func (cl *claiming) probe(ctx context.Context, out *job.Claimed) error {
	var live, dirty, more, arrived bool
	var next sql.NullTime
	var now time.Time
	var queues []string
	if cl.Max == 0 { // else the claim itself has looked
		queues, more = cl.s.worthProbing(cl.Session.Epoch, cl.queues())
		out.More = more
	}
	began := cl.s.env.Clock.Now()
	err := cl.aside(ctx, sqlProbe, func(scan func(...any) error) error {
		return scan(&live, &out.Sweep, &dirty, &out.Cancels, &next, &more, (*texts)(&out.Settings), &arrived, &now)
	}, cl.Session.Epoch, list(queues), list(cl.Kinds))
	if err != nil {
		return fmt.Errorf("postgres: probe: %w", err)
	}
	cl.s.probed(cl.Session.Epoch, queues, cl.s.env.Clock.Now().Sub(began))
	if !live && cl.Max > 0 && len(cl.got) == 0 {
		return store.ErrConflict
	}
	cl.saw(now)
	if out.More = out.More || more; cl.Max > 0 || len(out.Settings) == 0 {
		out.Settings = nil
	}
	if next.Valid && next.Time.After(now) {
		out.Next = asTime(next)
	}
	out.Due = next.Valid && !next.Time.After(now)
	if dirty {
		busy, err := cl.dirty(ctx)
		if err != nil {
			return err
		}
		out.Sweep = out.Sweep || busy
	}
	if arrived {
		return cl.arrived(ctx)
	}
	return nil
}

// dirty tells whether dead sessions have running jobs, and remembers of the others that they have none.
func (cl *claiming) dirty(ctx context.Context) (busy bool, err error) {
	if !cl.single {
		return cl.sweptOut(ctx)
	}
	err = cl.s.apart(ctx, func(ctx context.Context, x store.Tx) error {
		busy, err = x.(*tx).sweptOut(ctx)
		return err
	})
	return busy, err
}
