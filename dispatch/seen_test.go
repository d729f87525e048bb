package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
)

// What operators see of commands: metrics, spans per stage at debug, one log line each.
func TestSeen(t *testing.T) {
	m, rec, book := &meters{by: map[string]int64{}}, &spans{}, &logbook{}
	env := drover.Env{Meter: m, Tracer: rec, Logger: book.logger()}
	db, e := newShaky(), newElsewhere()
	r := &dispatch.Registry{Env: env, Tx: db}
	manager(t, db, func(m *job.Manager) {
		dispatch.Async(r, m, "deploy", nil, func(context.Context, deploy) (int, error) { return 0, nil }, e.option())
	}, submitOnly)
	dispatch.Sync(r, "look", func(_ context.Context, c verb) (int, error) {
		if c.VM == "bad" {
			return 0, errors.New("out of order")
		}
		return 1, nil
	})
	call := func(c dispatch.Command) {
		c.Caller = user("ann")
		_, _ = r.Dispatch(t.Context(), &c)
	}
	call(dispatch.Command{Name: "look", Params: map[string]string{"vm": "1", "zz": "1", "yy": "2"}})
	call(dispatch.Command{Name: "look", Params: map[string]string{"vm": "bad"}})
	call(dispatch.Command{Name: "look"})
	call(dispatch.Command{Name: "who knows"})
	once := dispatch.Command{Name: "deploy", Params: map[string]string{"name": "a"}, Idem: "k"}
	call(once)
	call(once)
	e.during = func() { db.down.Store(true) }
	call(dispatch.Command{Name: "deploy", Params: map[string]string{"name": "b"}})
	db.down.Store(false)
	for key, want := range map[string]int64{
		"drover.dispatch.commands  look sync": 1, "drover.dispatch.commands internal look sync": 1, "drover.dispatch.commands invalid look sync": 1,
		"drover.dispatch.commands unknown-command other ": 1, "drover.dispatch.commands  deploy async-create": 2,
		"drover.dispatch.stage invalid bind": 1, "drover.dispatch.stage unknown-command lookup": 1,
		"drover.dispatch.unknown_params look": 2, "drover.dispatch.replayed": 1, "drover.dispatch.undone": 1,
	} {
		if got := m.get(key); got != want {
			t.Errorf("%s: %d, want %d of %v", key, got, want, m.by)
		}
	}
	for _, name := range []string{"dispatch look", "dispatch other", "dispatch.stage bind", "dispatch.stage admit"} {
		if rec.find(name) == nil {
			t.Errorf("no span %q", name)
		}
	}
	if s := book.String(); strings.Count(s, "msg=command ") != 7 || !strings.Contains(s, "caller=ann") || strings.Contains(s, "who knows") && !strings.Contains(s, "command=other") {
		t.Error(s)
	}
}
