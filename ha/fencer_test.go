package ha

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
)

// bmc is a machine's switch that does as it is told, or not.
type bmc struct {
	state   Power
	reads   error
	says    error // of the command
	deaf    bool  // the command has no effect
	lag     int   // readings until it has
	cmds    int
	pending int
}

func (b *bmc) Power(context.Context) (Power, error) {
	if b.pending > 0 {
		if b.pending--; b.pending == 0 {
			b.state = PowerIsOff
		}
	}
	return b.state, b.reads
}

func (b *bmc) Off(context.Context) error {
	b.cmds++
	if !b.deaf {
		b.pending = 1 + b.lag
	}
	return b.says
}

var epoch4 = Token{Host: lease.Token{Epoch: 4}, Key: "k"}

func TestPowerFencer(t *testing.T) {
	for name, c := range map[string]struct {
		b     *bmc
		proof bool
		cmds  int
		err   string
	}{
		"no BMC":                     {},
		"already off":                {b: &bmc{state: PowerIsOff}, proof: true},
		"on, then off":               {b: &bmc{state: PowerIsOn, lag: 5}, proof: true, cmds: 1},
		"the command fails, but off": {b: &bmc{state: PowerIsOn, says: errors.New("busy")}, proof: true, cmds: 1},
		"the command is ok, but on":  {b: &bmc{state: PowerIsOn, deaf: true}, cmds: 1, err: `power state: "on"`},
		"unknown":                    {b: &bmc{state: "standby?", deaf: true}, cmds: 1, err: `power state: "standby?"`},
		"it cannot be read":          {b: &bmc{state: PowerIsOff, reads: errors.New("no session")}, cmds: 1, err: "no session"},
	} {
		t.Run("ha-42 "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &PowerFencer{BMC: func(context.Context, Host) (BMC, error) {
					if c.b == nil {
						return nil, nil
					}
					return c.b, nil
				}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				p, err := f.Fence(ctx, Host{ID: "h"}, epoch4)
				if (p != nil) != c.proof || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v, %v", p, err)
				}
				if c.b != nil && c.b.cmds != c.cmds {
					t.Errorf("%d commands", c.b.cmds)
				}
				if c.b != nil {
					was := c.b.cmds
					if p, _ := f.Read(t.Context(), Host{ID: "h"}, epoch4); (p != nil) != c.proof || c.b.cmds != was {
						t.Errorf("read: %+v, %d commands", p, c.b.cmds-was)
					}
				}
			})
		})
	}
	t.Run("no switch to be had", func(t *testing.T) {
		f := &PowerFencer{BMC: func(context.Context, Host) (BMC, error) { return nil, errors.New("no such chassis") }}
		if p, err := f.Fence(t.Context(), Host{}, epoch4); p != nil || err == nil {
			t.Error(p, err)
		}
	})
}

// said is a Fencer that says what it is told to.
type said struct {
	name  string
	calls *[]string
	proof *Proof
	err   error
	panic bool
}

func (f said) String() string { return f.name }
func (f said) Fence(context.Context, Host, Token) (*Proof, error) {
	*f.calls = append(*f.calls, f.name)
	if f.panic {
		panic("boom")
	}
	return f.proof, f.err
}

func TestFenceLevels(t *testing.T) {
	var calls []string
	ok := func(name string) Fencer { return said{name: name, calls: &calls, proof: &Proof{Kind: PowerOff}} }
	no := func(name string) Fencer { return said{name: name, calls: &calls, err: errors.New("no")} }
	none := func(name string) Fencer { return said{name: name, calls: &calls} }
	for _, c := range []struct {
		name   string
		levels [][]Fencer
		by     string
		calls  string
	}{
		{"ha-75 b fails, c is tried", [][]Fencer{{ok("a"), no("b")}, {ok("c")}}, "c", "a b b b c"},
		{"ha-75 both are ok", [][]Fencer{{ok("a"), ok("b")}, {ok("c")}}, "a", "a b"},
		{"no opinion is no failure", [][]Fencer{{none("a"), ok("b")}}, "b", "a b"},
		{"only no opinions", [][]Fencer{{none("a")}, {none("b")}}, "", "a b"},
		{"all fail", [][]Fencer{{no("a")}}, "", "a a a"},
		{"one panics", [][]Fencer{{said{name: "a", calls: &calls, panic: true}}, {ok("b")}}, "b", "a a a b"},
		{"a proof of another epoch", [][]Fencer{{said{name: "a", calls: &calls, proof: &Proof{Kind: PowerOff, Epoch: 3}}}}, "", "a"},
		{"none at all", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls = nil
			p, err := Fence(t.Context(), drover.Env{}, FenceOptions{}, c.levels, Host{ID: "h"}, epoch4)
			if got := strings.Join(calls, " "); got != c.calls {
				t.Errorf("called %s", got)
			}
			if c.by == "" {
				if p != nil || !errors.Is(err, ErrNotFenced) {
					t.Errorf("%+v, %v", p, err)
				}
				return
			}
			if err != nil || p.By != c.by || p.Epoch != 4 || p.At.IsZero() {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	t.Run("read only", func(t *testing.T) {
		calls = nil
		b := &bmc{state: PowerIsOn}
		f := &PowerFencer{BMC: func(context.Context, Host) (BMC, error) { return b, nil }}
		p, err := Fence(t.Context(), drover.Env{}, FenceOptions{ReadOnly: true}, [][]Fencer{{f}, {ok("a")}}, Host{ID: "h"}, epoch4)
		if p != nil || !errors.Is(err, ErrNotFenced) || b.cmds != 0 || len(calls) != 0 {
			t.Errorf("%+v, %v, %d commands, %q", p, err, b.cmds, calls)
		}
	})
}

func TestNeighbours(t *testing.T) {
	host := func(id string) Host { return Host{ID: id, Kind: "kvm"} }
	for name, c := range map[string]struct {
		all   []Host
		cut   func(ctx context.Context, n string) (bool, error)
		kind  string
		asked string
		proof bool
		err   bool
	}{
		"only the victim":        {all: []Host{host("v")}, err: true},
		"one confirms":           {all: []Host{host("v"), host("a"), host("b")}, asked: "a", proof: true, cut: func(context.Context, string) (bool, error) { return true, nil }},
		"the second confirms":    {all: []Host{host("a"), host("b")}, asked: "a b", proof: true, cut: func(_ context.Context, n string) (bool, error) { return n == "b", nil }},
		"none is available":      {err: true},
		"it times out":           {all: []Host{host("a")}, asked: "a", err: true, cut: func(ctx context.Context, _ string) (bool, error) { <-ctx.Done(); return true, nil }},
		"another kind":           {all: []Host{{ID: "a", Kind: "xen"}}, err: true},
		"no opinion of its kind": {all: []Host{host("a")}, kind: "bare"},
	} {
		t.Run("ha-18 "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []string
				f := &NeighbourFencer{Kinds: []string{"kvm"}, Neighbours: func(context.Context, Host) ([]Host, error) { return c.all, nil },
					Cut: func(ctx context.Context, n, victim Host, _ Token) (bool, error) {
						asked = append(asked, n.ID)
						return c.cut(ctx, n.ID)
					}}
				v := host("v")
				if c.kind != "" {
					v.Kind = c.kind
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				p, err := f.Fence(ctx, v, epoch4)
				if (p != nil) != c.proof || (err != nil) != c.err || strings.Join(asked, " ") != c.asked {
					t.Errorf("%+v, %v, asked %q", p, err, asked)
				}
			})
		})
	}
}

type investigator func(ctx context.Context) (Finding, error)

func (f investigator) Investigate(ctx context.Context, _ Host) (Finding, error) { return f(ctx) }

func TestInvestigate(t *testing.T) {
	t.Run("ha-73 panics, deafness and lateness", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			was := runtime.NumGoroutine()
			all := []Investigator{
				investigator(func(context.Context) (Finding, error) { panic("boom") }),
				investigator(func(context.Context) (Finding, error) { time.Sleep(time.Hour); return Finding{Verdict: Alive}, nil }),
				investigator(func(context.Context) (Finding, error) {
					return Finding{By: "ping", Verdict: Silent, Channel: "net"}, nil
				}),
				investigator(func(context.Context) (Finding, error) { return Finding{Verdict: Alive}, errors.New("refused") }),
				investigator(func(context.Context) (Finding, error) { return Finding{Verdict: Dead}, nil }),
				investigator(func(ctx context.Context) (Finding, error) { <-ctx.Done(); return Finding{Verdict: Alive}, nil }),
				investigator(func(context.Context) (Finding, error) { return Finding{Verdict: 17}, nil }),
			}
			begin := time.Now()
			out := Investigate(t.Context(), drover.Env{}, 3*time.Second, all, Host{ID: "h"})
			if d := time.Since(begin); d != 3*time.Second {
				t.Errorf("took %v", d)
			}
			var got []string
			for _, f := range out {
				got = append(got, fmt.Sprint(f.Verdict, " ", f.Note))
				if f.By == "" {
					t.Errorf("%+v is of nobody", f)
				}
			}
			want := "unknown panic: boom|unknown no answer in time|silent |unknown refused|unknown dead, but without a proof: |unknown no answer in time|unknown verdict 17 is none"
			if strings.Join(got, "|") != want || out[2].By != "ping" {
				t.Errorf("%q", got)
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			if n := runtime.NumGoroutine(); n > was {
				t.Errorf("%d goroutines, %d before", n, was)
			}
		})
	})
	t.Run("none", func(t *testing.T) {
		if out := Investigate(t.Context(), drover.Env{}, time.Second, nil, Host{}); len(out) != 0 {
			t.Error(out)
		}
	})
}
