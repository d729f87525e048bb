package tracker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// auto begins the reason of a host that no operator disabled.
const auto = "AUTO: "

// Disable refuses new claims and incoming moves on host; commits, aborts, releases and moves away go on. reason is shown to who is
// refused; it must not begin with "AUTO: ". A host without record is ErrNotFound, here and below.
func (t *Tracker) Disable(ctx context.Context, host, reason string) error {
	switch {
	case reason == "":
		return invalid("reason", "is empty")
	case strings.HasPrefix(reason, auto):
		return invalid("reason", "begins with AUTO: as those of AutoDisable do")
	}
	return t.edit(ctx, "disable", host, func(r *Record) { r.Enabled, r.Reason = false, reason })
}

// Enable ends Disable and AutoDisable.
func (t *Tracker) Enable(ctx context.Context, host string) error {
	return t.edit(ctx, "enable", host, func(r *Record) { r.Enabled, r.Reason = true, "" })
}

// AutoDisable is Disable for programs: "AUTO: " precedes the reason, and a host that is disabled already stays as it is.
func (t *Tracker) AutoDisable(ctx context.Context, host, reason string) error {
	if reason = strings.TrimPrefix(reason, auto); reason == "" {
		return invalid("reason", "is empty")
	}
	return t.edit(ctx, "disable", host, func(r *Record) {
		if r.Enabled {
			r.Enabled, r.Reason = false, auto+reason
		}
	})
}

// AutoEnable ends AutoDisable, and no operator's Disable.
func (t *Tracker) AutoEnable(ctx context.Context, host string) error {
	return t.edit(ctx, "enable", host, func(r *Record) {
		if strings.HasPrefix(r.Reason, auto) {
			r.Enabled, r.Reason = true, ""
		}
	})
}

// SetCapacity says what a host has whose driver does not tell, and makes its record. Of one whose driver does, only Extra lasts
// longer than until the next audit.
func (t *Tracker) SetCapacity(ctx context.Context, host string, a Amount) error {
	if err := a.validate("Amount"); err != nil {
		return err
	}
	if host == "" || len(host) > 255 {
		return invalid("host", "must have 1 to 255 bytes")
	}
	return t.edit(ctx, "capacity", host, func(r *Record) {
		if r.Generation == 0 {
			r.Enabled = true
		}
		r.Capacity = a
	})
}

// edit changes a record; nothing is written if f changes nothing. Another's change in between is met by another try.
func (t *Tracker) edit(ctx context.Context, op, host string, f func(r *Record)) error {
	var saved Record
	var err error
	for range maxConflicts {
		err = t.write(ctx, func(ctx context.Context, tx store.Tx) error {
			r, _, err := t.cfg.Store.LoadHost(ctx, tx, host)
			if op == "capacity" && errors.Is(err, ErrNotFound) {
				r, err = Record{Host: host}, nil
			}
			if err != nil {
				return err
			}
			saved = r
			if f(&r); r.Enabled == saved.Enabled && r.Reason == saved.Reason && r.Capacity.Equal(saved.Capacity) && r.Generation != 0 {
				return nil
			}
			saved, err = t.cfg.Store.SaveHost(ctx, tx, r)
			return err
		})
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("tracker: host %s: %w", host, err)
	}
	if old, ok := t.snapshot(host); ok && old.Enabled != saved.Enabled {
		t.env.Logger.Info("tracker: host", "host", host, "enabled", saved.Enabled, "reason", saved.Reason)
	}
	t.publish(ctx, watchlock.Holder{Op: op, Host: host}, saved)
	return nil
}

// Remove deletes a host's record; with counted rows it is ErrInUse. Take it from Config.Hosts first, or the next audit makes it
// anew.
func (t *Tracker) Remove(ctx context.Context, id string) error {
	var err error
	for range maxConflicts {
		err = t.write(ctx, func(ctx context.Context, tx store.Tx) error {
			r, _, err := t.cfg.Store.LoadHost(ctx, tx, id)
			if err != nil {
				return err
			}
			return t.cfg.Store.DeleteHost(ctx, tx, id, r.Generation)
		})
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("tracker: host %s: %w", id, err)
	}
	t.locked("remove", func() { t.forget(func(known string, _ *host) bool { return known == id }) })
	return nil
}
