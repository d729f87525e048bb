package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// TestPurge: a session that is forgotten stays while a job names it, and goes when none does.
func TestPurge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	live := h.tok
	open := func(name string) {
		h.in(func(ctx context.Context, tx store.Tx) (err error) {
			h.tok, err = h.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, "p", time.Hour)
			return err
		})
	}
	open("idle")
	open("busy")
	h.insert(newRow("1"))
	rows := h.claim(1)
	h.finish(rows)
	h.tok = live
	if _, err := h.db.Exec(`UPDATE drover.drover_session SET dead = true, state = 'dead', until = now() - interval '2 h', marked = now() - interval '2 h' WHERE name <> 'n1'`); err != nil {
		t.Fatal(err)
	}
	h.in(func(ctx context.Context, tx store.Tx) error {
		_, err := h.Leases().Sweep(ctx, tx, 100)
		return err
	})
	var names []string
	if err := h.db.NewRaw(`SELECT name FROM drover.drover_session ORDER BY name`).Scan(t.Context(), &names); err != nil {
		t.Fatal(err)
	}
	if len(names) != 2 || names[0] != "busy" || names[1] != "n1" {
		t.Errorf("sessions %q are kept", names)
	}
	h.in(func(ctx context.Context, tx store.Tx) error {
		found, err := h.Jobs().List(ctx, tx, job.Find{IDs: []string{rows[0].ID}})
		if err == nil && (len(found.Rows) != 1 || found.Rows[0].Session != "busy") {
			t.Errorf("the job does not know any more where it ran: %+v", found.Rows)
		}
		return err
	})
}
