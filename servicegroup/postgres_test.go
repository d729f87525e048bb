package servicegroup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/store/postgres"
)

func TestPostgres(t *testing.T) {
	t.Run("servicegroup-42 server killed", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshPostgres(t)
		dsn := server.Database(t)
		a, b := run(t, postgresMembers(t, dsn).Members(), "a", quick), run(t, postgresMembers(t, dsn).Members(), "b", quick)
		a.up(t, "b")
		b.up(t, "a")
		server.Kill(t)
		for _, n := range []*live{a, b} {
			n.until(t, 20*time.Second, func(v servicegroup.View) bool { return len(v.Unknown) == 2 && !v.Self })
		}
		was := a.Self()
		server.Restart(t)
		for _, n := range []*live{a, b} {
			n.until(t, 20*time.Second, func(v servicegroup.View) bool { return len(v.Up) == 2 && v.Self })
			if n.downs.Load() != 0 {
				t.Error("reported down for want of a server")
			}
		}
		if is := a.Self(); is.Incarnation != was.Incarnation || is.Beat <= was.Beat {
			t.Errorf("%+v, was %+v", is, was)
		}
	})
	t.Run("servicegroup-43 black hole", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshPostgres(t)
		proxy, dsn := server.Proxied(t, server.Database(t))
		d := postgresMembers(t, dsn).Members()
		n := run(t, d, "a", quick)
		n.up(t, "a")
		proxy.BlackHole()
		ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		begin := time.Now()
		err := d.Beat(ctx, n.Self())
		if took := time.Since(begin); !errors.Is(err, servicegroup.ErrUnavailable) || took > 5*time.Second {
			t.Fatalf("%v after %v", err, took)
		}
		n.until(t, 20*time.Second, func(v servicegroup.View) bool { return len(v.Unknown) == 1 && !v.Self })
		proxy.Heal()
		n.up(t, "a")
		if n.downs.Load() != 0 {
			t.Error("reported down for want of an answer")
		}
		n.stop(t)
		noGoroutines(t, "drover/servicegroup/db.")
	})
	t.Run("servicegroup-59 a thousand members", func(t *testing.T) {
		members, interval, window, rounds := 200, 2*time.Second, 6*time.Second, 20
		if long {
			members, interval, window, rounds = 1000, 10*time.Second, time.Minute, 360
		}
		dsn := testkit.Postgres(t).Database(t)
		s := postgresMembers(t, dsn)
		d := s.Members()
		for i := range members {
			run(t, d, fmt.Sprintf("n%04d", i), func(c *servicegroup.Config) { c.Interval, c.BeatOnly = interval, i >= 10 })
		}
		o := run(t, postgresMembers(t, dsn).Members(), "o", func(c *servicegroup.Config) { c.Interval = -1 })
		o.until(t, time.Minute, func(v servicegroup.View) bool { return len(v.Up) == members })
		count := func() (n int64) {
			if err := testkit.OpenPostgres(t, dsn, 1).NewRaw(`SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`).Scan(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		time.Sleep(interval) // what the joins hinted is over
		was, begin := count(), time.Now()
		time.Sleep(window)
		rate := float64(count()-was) / time.Since(begin).Seconds()
		most := float64(members)/interval.Seconds() + 10/interval.Seconds() + 5 // ours; the server's own reads of statistics
		t.Logf("%d members: %.1f statements/s", members, rate)
		if rate > most*1.1 {
			t.Errorf("%.1f statements/s, want at most %.1f", rate, most)
		}
		var took []time.Duration
		for range 100 {
			begin := time.Now()
			if _, err := d.Members(t.Context(), "drover"); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		t.Logf("read of %d: median %v, p99 %v", members, took[50], took[98])
		if took[50] > 10*time.Millisecond { // p99 on a quiet machine
			t.Errorf("median of reads %v", took[50])
		}
		steady(t, s, dsn, d, members, rounds)
	})
}

// steady beats for rounds of all members, and looks whether the table stays as it is.
func steady(t *testing.T, _ *postgres.Store, dsn string, d servicegroup.Driver, members, rounds int) {
	raw := testkit.OpenPostgres(t, dsn, 1)
	size := func() (n int64) {
		if err := raw.NewRaw(`SELECT pg_relation_size('ops.drover_members')`).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	all, err := d.Members(t.Context(), "drover")
	if err != nil {
		t.Fatal(err)
	}
	beat := func() {
		for _, m := range all {
			if err := d.Beat(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		beat()
	}
	was := size()
	for range rounds {
		beat()
	}
	if is := size(); is > was+was/5 {
		t.Errorf("the table grew from %d to %d bytes in %d rounds", was, is, rounds)
	}
	var hot, updates int64
	eventually(t, 20*time.Second, func() bool {
		err := raw.NewRaw(`SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'drover_members'`).Scan(t.Context(), &hot, &updates)
		return err == nil && updates > int64(members*rounds/2)
	})
	t.Logf("%d of %d updates were heap-only", hot, updates)
	if float64(hot) < 0.95*float64(updates) {
		t.Errorf("%d of %d updates were heap-only", hot, updates)
	}
}

func TestDBConfig(t *testing.T) {
	pg := testkit.OpenSQLite(t, testkit.SQLiteFile(t))
	for field, f := range map[string]func() error{
		"DB":     func() error { _, err := db.New(nil, db.Config{}); return err },
		"Schema": func() error { _, err := db.New(pg, db.Config{Schema: "a b"}); return err },
		"Prefix": func() error { _, err := db.New(pg, db.Config{Prefix: "x;"}); return err },
	} {
		if err := f(); !errors.Is(err, servicegroup.ErrConfig) || !strings.Contains(err.Error(), field) {
			t.Errorf("servicegroup-06 %s: %v", field, err)
		}
	}
}
