package mutants

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func load(t *testing.T, path string) *Mutant {
	t.Helper()
	m, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each mutant must be noticed by the tests it names.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tests once per mutant")
	}
	files, err := filepath.Glob("*.mutant")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		m := load(t, f)
		t.Run(strings.TrimSpace(m.Spec+" "+m.ID), func(t *testing.T) {
			out, err := m.Kill(abs, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Log(first(out, "testkit: seed"))
		})
	}
	t.Run("a harmless one survives", func(t *testing.T) {
		if _, err := load(t, "testdata/harmless.mutant").Kill(abs, t.TempDir()); !errors.Is(err, ErrSurvived) {
			t.Fatal(err)
		}
	})
	t.Run("one without its text is refused", func(t *testing.T) {
		if _, err := load(t, "testdata/stale.mutant").Kill(abs, t.TempDir()); err == nil || !strings.Contains(err.Error(), "occurs 0 times") {
			t.Fatal(err)
		}
	})
}

func first(out, what string) string {
	for _, l := range strings.Split(out, "\n") {
		if strings.Contains(l, what) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}
