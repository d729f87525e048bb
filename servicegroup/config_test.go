package servicegroup_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

func TestSpecConfig(t *testing.T) {
	t.Run("servicegroup-04 intervals", func(t *testing.T) {
		const s = time.Second
		for _, c := range []struct{ interval, down, want time.Duration }{
			{10 * s, 60 * s, 60 * s}, {60 * s, 60 * s, 150 * s}, {70 * s, 60 * s, 175 * s}, {s, 60 * s, 60 * s}, {3 * s, 3 * s, 7500 * time.Millisecond},
		} {
			synctest.Test(t, func(t *testing.T) {
				d := newFake()
				o := start(t, d, "o", func(x *servicegroup.Config) { x.Interval, x.Down = c.interval, c.down })
				warned := 0
				if c.want != c.down {
					warned = 1
				}
				if n := o.log.count("level=WARN"); n != warned || warned == 1 && !strings.Contains(o.log.String(), "down="+c.want.String()) {
					t.Errorf("%v/%v: %d warnings\n%s", c.interval, c.down, n, o.log)
				}
				_ = o.stop()
			})
		}
	})
	t.Run("servicegroup-06 bad input", func(t *testing.T) {
		type set func(c *servicegroup.Config)
		for _, c := range []struct {
			field string
			want  error
			f     set
		}{
			{"Driver", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.Driver = nil }},
			{"ID", servicegroup.ErrID, func(c *servicegroup.Config) { c.ID = strings.Repeat("x", 129) }},
			{"ID", servicegroup.ErrID, func(c *servicegroup.Config) { c.ID = "a b" }},
			{"ID", servicegroup.ErrID, func(c *servicegroup.Config) { c.ID = "-a" }},
			{"ID", servicegroup.ErrID, func(c *servicegroup.Config) { c.ID, c.Env.Node = "", "é" }},
			{"Group", servicegroup.ErrID, func(c *servicegroup.Config) { c.Group = "a b" }},
			{"Meta", servicegroup.ErrMeta, func(c *servicegroup.Config) { c.Meta = map[string]string{"k": strings.Repeat("v", 5<<10)} }},
			{"Down", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.Down = -time.Second }},
			{"Interval", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.Interval = time.Millisecond }},
			{"MassFraction", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.MassFraction = 1.5 }},
			{"MassMin", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.MassMin = -1 }},
			{"MassHold", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.MassHold = -1 }},
			{"BeatOnly", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.BeatOnly, c.Interval = true, -1 }},
			{"Addr", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.Addr = strings.Repeat("a", 256) }},
			{"Version", servicegroup.ErrConfig, func(c *servicegroup.Config) { c.Version = strings.Repeat("1", 129) }},
		} {
			d := newFake()
			cfg := config(d, "n1")
			c.f(&cfg)
			_, err := servicegroup.New(cfg)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.field) || len(d.calls) != 0 {
				t.Errorf("%s: %v", c.field, err)
			}
			if c.want == servicegroup.ErrConfig && !errors.Is(err, drover.ErrConfig) {
				t.Errorf("%v is not drover.ErrConfig", err)
			}
		}
		cfg := config(newFake(), "n1")
		cfg.ID, cfg.Env.Node = "", "host/12/abcdef01"
		g, err := servicegroup.New(cfg)
		if err != nil || g.Self().ID != "host.12.abcdef01" {
			t.Error(err)
		}
	})
}
