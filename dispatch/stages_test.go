package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(testkit.Main(m))
}

var standard = []string{"recover", "trace", "lookup", "permit", "unpack", "bind", "authorize", "generic", "validate", "admit"}

// probes puts a probe in front of every stage; each notes its stage's name when it is reached.
func probes(seen *[]string) dispatch.Stages {
	s := dispatch.Standard()
	for _, name := range s.Names() {
		s = s.Before(name, "probe-"+name, func(next dispatch.Handler) dispatch.Handler {
			return dispatch.HandlerFunc(func(ctx context.Context, c *dispatch.Command) (any, error) {
				*seen = append(*seen, name)
				return next.Dispatch(ctx, c)
			})
		})
	}
	return s
}

type empty struct{}

// judged is a command whose Validate counts its calls.
type judged struct {
	V string `param:"v"`
}

var judgedCalls int

func (j judged) Validate() error {
	judgedCalls++
	if j.V == "bad" {
		return errors.New("v is bad")
	}
	return nil
}

func logged() (drover.Env, *bytes.Buffer) {
	var b bytes.Buffer
	return drover.Env{Logger: slog.New(slog.NewTextHandler(&b, nil))}, &b
}

func TestChain(t *testing.T) {
	t.Run("dispatch-01 order in the caller", func(t *testing.T) {
		if got := dispatch.Standard().Names(); !slices.Equal(got, standard) {
			t.Fatalf("got %v", got)
		}
		var seen []string
		r := dispatch.Registry{Stages: probes(&seen)}
		dispatch.Sync(&r, "c", func(ctx context.Context, _ empty) (int, error) { seen = append(seen, "run"); return 1, nil })
		if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c"}); err != nil || out != 1 {
			t.Fatal(out, err)
		}
		if want := append(slices.Clone(standard), "run"); !slices.Equal(seen, want) {
			t.Errorf("got %v", seen)
		}
	})
	t.Run("dispatch-17 first failure ends the chain", func(t *testing.T) {
		for at, name := range standard {
			var seen []string
			fail := errors.New("stop here")
			stages := probes(&seen)
			if name != "recover" {
				stages = stages.Replace(name, func(dispatch.Handler) dispatch.Handler {
					return dispatch.HandlerFunc(func(context.Context, *dispatch.Command) (any, error) { return nil, fail })
				})
			} else {
				continue
			}
			r := dispatch.Registry{Stages: stages}
			dispatch.Sync(&r, "c", func(ctx context.Context, _ empty) (int, error) { seen = append(seen, "run"); return 1, nil })
			if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c"}); !errors.Is(err, fail) {
				t.Fatalf("%s: %v", name, err)
			}
			if !slices.Equal(seen, standard[:at+1]) {
				t.Errorf("%s failed: reached %v", name, seen)
			}
		}
	})
	t.Run("dispatch-18 edits", func(t *testing.T) {
		pass := func(next dispatch.Handler) dispatch.Handler { return next }
		s := dispatch.Standard()
		edited := s.Before("validate", "quota", pass).After("bind", "audit", pass).Replace("authorize", pass).Remove("generic")
		want := []string{"recover", "trace", "lookup", "permit", "unpack", "bind", "audit", "authorize", "quota", "validate", "admit"}
		if got := edited.Names(); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		if !slices.Equal(s.Names(), standard) {
			t.Error("the original changed")
		}
		for name, f := range map[string]func(){
			"unknown":      func() { s.Before("nosuch", "x", pass) },
			"twice":        func() { s.After("bind", "trace", pass) },
			"recover":      func() { s.Remove("recover") },
			"nil":          func() { s.Replace("bind", nil) },
			"unknown, del": func() { s.Remove("nosuch") },
		} {
			if text := panicText(f); text == "" {
				t.Errorf("%s: no panic", name)
			}
		}
	})
	t.Run("dispatch-11 Validate once per pass", func(t *testing.T) {
		judgedCalls = 0
		var r dispatch.Registry
		dispatch.Sync(&r, "c", func(ctx context.Context, j judged) (string, error) { return j.V, nil })
		if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: map[string]string{"v": "good"}}); err != nil || out != "good" || judgedCalls != 1 {
			t.Errorf("%v %v, %d calls", out, err, judgedCalls)
		}
		if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: map[string]string{"v": "bad"}}); !errors.Is(err, dispatch.ErrInvalid) || judgedCalls != 2 {
			t.Errorf("%v, %d calls", err, judgedCalls)
		}
	})
}

func panicText(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

func TestUnknownParameters(t *testing.T) {
	type c struct {
		V     string `param:"v"`
		Admin string `param:"admin,roles=admin"`
	}
	setup := func() (*dispatch.Registry, *bytes.Buffer) {
		env, log := logged()
		r := &dispatch.Registry{Env: env, Known: []string{"Mine"}}
		dispatch.Sync(r, "c", func(ctx context.Context, x c) (string, error) { return x.V + x.Admin, nil })
		return r, log
	}
	t.Run("dispatch-07 known in any case", func(t *testing.T) {
		r, log := setup()
		p := map[string]string{"V": "x", "mine": "1"}
		for _, k := range []string{"Command", "response", "apiKey", "SIGNATURE", "signatureVersion", "expires", "sessionkey", "page", "pageSize", "listAll", "filter", "keyword", "projectid", "account", "domainid", "customid", "customjobid"} {
			p[k] = "1"
		}
		p["details[0].key"] = "a"
		if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: p}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "unknown") {
			t.Error(log)
		}
	})
	t.Run("dispatch-08 one warning", func(t *testing.T) {
		r, log := setup()
		out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "c", Params: map[string]string{"v": "x", "b": "1", "A": "2"}})
		if err != nil || out != "x" {
			t.Fatal(out, err)
		}
		if s := log.String(); strings.Count(s, "unknown parameters") != 1 || !strings.Contains(s, `command=c parameters="[a b]"`) {
			t.Error(s)
		}
	})
	t.Run("dispatch-10 roles", func(t *testing.T) {
		r, log := setup()
		cmd := func(roles string) *dispatch.Command {
			return &dispatch.Command{Name: "c", Params: map[string]string{"v": "x", "admin": "y"}, Caller: map[string]string{"roles": roles}}
		}
		if out, err := r.Dispatch(t.Context(), cmd("user,admin")); err != nil || out != "xy" {
			t.Error(out, err)
		}
		if strings.Contains(log.String(), "unknown") {
			t.Error(log)
		}
		if out, err := r.Dispatch(t.Context(), cmd("user")); err != nil || out != "x" {
			t.Error(out, err)
		}
		if !strings.Contains(log.String(), "unknown parameters") {
			t.Error("no warning")
		}
	})
}

func TestRegistration(t *testing.T) {
	ok := func(ctx context.Context, _ empty) (int, error) { return 0, nil }
	type twice struct {
		A string `param:"same"`
		B string `param:"SAME"`
	}
	type badWord struct {
		A string `param:"a,requird"`
	}
	type badType struct {
		A chan int `param:"a"`
	}
	type untagged struct{ A string }
	type contradiction struct {
		A string `param:"a,required,default=x"`
	}
	type minMax struct {
		A int `param:"a,min=3,max=2"`
	}
	type boolOneOf struct {
		A bool `param:"a,oneof=true|false"`
	}
	for name, c := range map[string]struct {
		f    func(r *dispatch.Registry)
		want []string
	}{
		"same field name": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, twice) (int, error) { return 0, nil })
		}, []string{"cmd", "B", "same"}},
		"bad tag word": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, badWord) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "requird"}},
		"unknown type": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, badType) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "chan int"}},
		"untagged field": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, untagged) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "param tag"}},
		"required and default": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, contradiction) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "contradict"}},
		"min above max": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, minMax) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "min"}},
		"oneof on bool": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, boolOneOf) (int, error) { return 0, nil })
		}, []string{"cmd", "A", "oneof"}},
		"no struct": {func(r *dispatch.Registry) {
			dispatch.Sync(r, "cmd", func(context.Context, int) (int, error) { return 0, nil })
		}, []string{"cmd", "struct"}},
		"bad name":    {func(r *dispatch.Registry) { dispatch.Sync(r, "1cmd", ok) }, []string{"1cmd"}},
		"duplicate":   {func(r *dispatch.Registry) { dispatch.Sync(r, "cmd", ok); dispatch.Sync(r, "cmd", ok) }, []string{"cmd", "twice"}},
		"nil manager": {func(r *dispatch.Registry) { dispatch.Async(r, nil, "cmd", nil, ok) }, []string{"cmd", "manager"}},
		"after first Dispatch": {func(r *dispatch.Registry) {
			_, _ = r.Dispatch(t.Context(), &dispatch.Command{Name: "x"})
			dispatch.Sync(r, "cmd", ok)
		}, []string{"cmd", "after the first Dispatch"}},
	} {
		t.Run("dispatch-16 "+name, func(t *testing.T) {
			text := panicText(func() { c.f(new(dispatch.Registry)) })
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("panic %q does not name %q", text, w)
				}
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Run("dispatch-19 panics", func(t *testing.T) {
		env, log := logged()
		stages := dispatch.Standard().Before("admit", "mine", func(next dispatch.Handler) dispatch.Handler {
			return dispatch.HandlerFunc(func(ctx context.Context, c *dispatch.Command) (any, error) {
				if c.Name == "stage" {
					panic("in a stage")
				}
				return next.Dispatch(ctx, c)
			})
		})
		r := dispatch.Registry{Env: env, Stages: stages}
		dispatch.Sync(&r, "stage", func(context.Context, empty) (int, error) { return 1, nil })
		dispatch.Sync(&r, "f", func(context.Context, empty) (int, error) { panic("in f") })
		dispatch.Sync(&r, "validate", func(context.Context, panicky) (int, error) { return 1, nil })
		dispatch.Sync(&r, "fine", func(context.Context, empty) (int, error) { return 1, nil })
		for _, name := range []string{"stage", "f", "validate"} {
			_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: name})
			if dispatch.CodeOf(err) != dispatch.Internal || !errors.Is(err, drover.ErrPanic) {
				t.Errorf("%s: %v", name, err)
			}
			if text := dispatch.Public(err, true).Error(); strings.Contains(text, "goroutine") || strings.Contains(text, ".go:") {
				t.Errorf("a stack in the answer: %s", text)
			}
		}
		if !strings.Contains(log.String(), "goroutine") {
			t.Error("no stack in the log")
		}
		if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "fine"}); err != nil || out != 1 {
			t.Error(out, err)
		}
	})
	t.Run("dispatch-20 deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var r dispatch.Registry
			slow := func(ctx context.Context, _ empty) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
			dispatch.Sync(&r, "slow", slow, dispatch.Timeout(time.Second))
			dispatch.Sync(&r, "default", slow)
			took := func(ctx context.Context, name string) time.Duration {
				start := time.Now()
				if _, err := r.Dispatch(ctx, &dispatch.Command{Name: name}); dispatch.CodeOf(err) != dispatch.TimedOut {
					t.Errorf("%s: %v", name, err)
				}
				return time.Since(start)
			}
			if d := took(t.Context(), "slow"); d != time.Second {
				t.Errorf("took %v", d)
			}
			if d := took(t.Context(), "default"); d != 30*time.Second {
				t.Errorf("took %v", d)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if d := took(ctx, "slow"); d != 300*time.Millisecond {
				t.Errorf("the caller's earlier deadline: took %v", d)
			}
		})
	})
	t.Run("dispatch-39 unknown and hidden", func(t *testing.T) {
		r := dispatch.Registry{Permit: func(_ context.Context, caller any, info dispatch.CommandInfo) error {
			if caller == nil && info.Name != "open" {
				return errors.New("not you")
			}
			return nil
		}}
		dispatch.Sync(&r, "hidden", func(context.Context, empty) (int, error) { return 1, nil }, dispatch.Hidden())
		dispatch.Sync(&r, "shown", func(context.Context, empty) (int, error) { return 1, nil })
		answer := func(name string) string {
			_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: name})
			return fmt.Sprint(dispatch.CodeOf(err), strings.ReplaceAll(err.Error(), name, "NAME"), errors.Is(err, dispatch.ErrUnknown))
		}
		unknown := answer("nosuch")
		for _, name := range []string{"hidden", "Hidden", "SHOWN"} {
			if got := answer(name); got != unknown {
				t.Errorf("%s: %q, want %q", name, got, unknown)
			}
		}
		if got := answer("shown"); !strings.HasPrefix(got, "forbidden") {
			t.Error(got)
		}
	})
}

// panicky panics in Validate.
type panicky struct{}

func (panicky) Validate() error { panic("in Validate") }

func TestCatalog(t *testing.T) {
	type result struct {
		ID   string `json:"id" doc:"the id"`
		Nics []struct {
			IP string `json:"ip"`
		} `json:"nics"`
	}
	var r dispatch.Registry
	dispatch.Sync(&r, "zzz", func(context.Context, embedded) (result, error) { return result{}, nil }, dispatch.Doc("last"))
	dispatch.Sync(&r, "aaa", func(context.Context, empty) (int, error) { return 0, nil }, dispatch.Roles("admin"))
	all := r.Catalog(t.Context(), map[string]string{"roles": "admin"})
	if len(all) != 2 || all[0].Name != "aaa" || all[1].Doc != "last" || all[1].Params[0].Type != "string" || !all[1].Params[0].Required {
		t.Errorf("got %+v", all)
	}
	if !reflect.DeepEqual(all, r.Catalog(t.Context(), map[string]string{"roles": "admin"})) {
		t.Error("two calls differ")
	}
	if some := r.Catalog(t.Context(), nil); len(some) != 1 || some[0].Name != "zzz" {
		t.Errorf("got %+v", some)
	}
	if f := all[1].Response; len(f) != 2 || f[0].Doc != "the id" || f[1].Type != "list" || f[1].Fields[0].Name != "ip" || f[1].Fields[0].Fields == nil {
		t.Errorf("got %+v", f)
	}
}
