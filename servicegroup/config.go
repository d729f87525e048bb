package servicegroup

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
)

// Config of a [Group]. Driver is required; a zero field is its default.
type Config struct {
	Env    drover.Env
	Driver Driver
	Group  string // default "drover"; the alphabet of ID and /

	// ID names the member, whatever the letter case: [A-Za-z0-9][A-Za-z0-9._:@-]{0,127}. Default Env.Node with . for /.
	ID string
	// Addr and Version are what others shall know; Addr is compared by Exclusive.
	Addr, Version string
	// Meta is what else others shall know: at most 32 keys and 4 KiB. "draining" is set by Announce.
	Meta map[string]string

	// Interval between beats, and between reads of the group; default 10 s, at least 100 ms. Negative: observe only, neither
	// join nor beat, and read every 10 s.
	Interval time.Duration
	// Down: silent for longer means down; default 60 s. One that is not longer than Interval is raised to 2.5 × Interval.
	Down time.Duration
	// BeatOnly: do not read the group, the view stays empty. For the many members of a large group that need no view.
	BeatOnly bool

	// Health is told with each beat; nil means ready. It answers from memory.
	Health func() drover.Health
	// Critical: a member whose health is failing is not IsUp here, though it beats.
	Critical bool
	// Exclusive: watch a record of the same ID, or of the same Addr, for 1.5 × Interval before taking over; if it lives,
	// Run ends with ErrTaken.
	Exclusive bool

	// MassFraction and MassMin: if at least MassMin members, and more than this fraction of those that were up, fall silent
	// together, none of them is Down. Default 0.5 and 3; a fraction of 1 switches that off.
	MassFraction float64
	MassMin      int
	// MassHold ends that for members that stayed silent for so long while the driver answered; default 0: only their return
	// or an operator (ConfirmDown) ends it.
	MassHold time.Duration
}

const (
	minInterval = 100 * time.Millisecond
	maxDown     = 366 * 24 * time.Hour
	maxMeta     = 4 << 10
	maxKeys     = 32

	draining = "draining" // key of Meta
)

var (
	idForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`)
	groupForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$`)
)

// defaults also answers whether Down was raised.
func (c Config) defaults() (_ Config, raised bool) {
	c.Env = c.Env.Defaults()
	if c.Group == "" {
		c.Group = "drover"
	}
	if c.ID == "" {
		c.ID = strings.ReplaceAll(c.Env.Node, "/", ".")
	}
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.Down == 0 {
		c.Down = time.Minute
	}
	if c.Down > 0 && c.Down <= c.Interval {
		c.Down, raised = c.Interval*5/2, true
	}
	if c.MassFraction == 0 {
		c.MassFraction = 0.5
	}
	if c.MassMin == 0 {
		c.MassMin = 3
	}
	c.Meta = maps.Clone(c.Meta)
	return c, raised
}

func (c Config) check() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Driver == nil:
		return bad("Driver", "required")
	case !groupForm.MatchString(c.Group):
		return fmt.Errorf("%w: Group: %.140q does not match %s", ErrID, c.Group, groupForm)
	case c.Interval > 0 && c.Interval < minInterval:
		return bad("Interval", "%v is less than %v", c.Interval, minInterval)
	case c.Down < 0 || c.Down > maxDown:
		return bad("Down", "%v is not within 0 and %v", c.Down, maxDown)
	case !(c.MassFraction > 0 && c.MassFraction <= 1):
		return bad("MassFraction", "%v is not within 0 and 1", c.MassFraction)
	case c.MassMin < 0:
		return bad("MassMin", "%d is negative", c.MassMin)
	case c.MassHold < 0:
		return bad("MassHold", "%v is negative", c.MassHold)
	case c.BeatOnly && c.Interval < 0:
		return bad("BeatOnly", "neither beats nor reads, as Interval is negative")
	case len(c.Addr) > 255:
		return bad("Addr", "%d bytes, must be at most 255", len(c.Addr))
	case len(c.Version) > 128:
		return bad("Version", "%d bytes, must be at most 128", len(c.Version))
	}
	if err := checkID(c.ID); err != nil {
		return err
	}
	return checkMeta(c.Meta)
}

func checkID(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("%w: ID: %.140q does not match %s", ErrID, id, idForm)
	}
	return nil
}

func checkMeta(meta map[string]string) error {
	n := 0
	for k, v := range meta {
		n += len(k) + len(v)
	}
	if len(meta) > maxKeys || n > maxMeta {
		return fmt.Errorf("%w: Meta: %d keys and %d bytes, must be at most %d and %d", ErrMeta, len(meta), n, maxKeys, maxMeta)
	}
	return nil
}

// every is the spacing of reads, and of beats.
func (c Config) every() time.Duration {
	if c.Interval < 0 {
		return 10 * time.Second
	}
	return c.Interval
}

// limit is a beat's own deadline, and a read's.
func (c Config) limit() time.Duration {
	if d := c.every(); d > 5*time.Second {
		return d - time.Second
	}
	return c.every() * 8 / 10
}
