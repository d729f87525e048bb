// Package mutants proves that tests can fail: each *.mutant file breaks the production code in one way, by go test
// -overlay, so that the code itself has no switch, and names the tests that must notice.
//
// A file is lines "name: value" (spec: acceptance cases; test: package and -run pattern; want: what the failure says; args: more arguments),
// then for each edit a line "file: path", the old text between "<<<<" and "====", which must occur exactly once, and the new
// text up to ">>>>".
package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Mutant is one broken variant of the code.
type Mutant struct {
	ID      string
	Spec    string // the acceptance cases that it is the negative control of
	Package string
	Run     string
	Args    []string
	Want    *regexp.Regexp
	edits   []edit
}

type edit struct{ file, old, new string }

// ErrSurvived says that the tests named did not notice a mutant.
var ErrSurvived = errors.New("mutants: survived")

// Load reads a mutant file.
func Load(path string) (*Mutant, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &Mutant{ID: strings.TrimSuffix(filepath.Base(path), ".mutant")}
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		name, value, _ := strings.Cut(lines[i], ":")
		value = strings.TrimSpace(value)
		switch name {
		case "spec":
			m.Spec = value
		case "test":
			m.Package, m.Run, _ = strings.Cut(value, " ")
		case "args":
			m.Args = strings.Fields(value)
		case "want":
			if m.Want, err = regexp.Compile(value); err != nil {
				return nil, fmt.Errorf("mutants: %s: %w", path, err)
			}
		case "file":
			e := edit{file: value}
			if i, err = e.read(lines, i+1); err != nil {
				return nil, fmt.Errorf("mutants: %s: %w", path, err)
			}
			m.edits = append(m.edits, e)
		default:
			if s := strings.TrimSpace(lines[i]); s != "" && !strings.HasPrefix(s, "#") {
				return nil, fmt.Errorf("mutants: %s:%d: unexpected %q", path, i+1, s)
			}
		}
	}
	if m.Package == "" || m.Run == "" || m.Want == nil || len(m.edits) == 0 {
		return nil, fmt.Errorf("mutants: %s: test, want and an edit are needed", path)
	}
	return m, nil
}

// read takes the texts of an edit from line i on and gives its last line.
func (e *edit) read(lines []string, i int) (int, error) {
	part := func(from, to string) (string, error) {
		if i >= len(lines) || lines[i] != from {
			return "", fmt.Errorf("line %d: want %s", i+1, from)
		}
		begin := i + 1
		for i++; i < len(lines); i++ {
			if lines[i] == to {
				return strings.Join(lines[begin:i], "\n"), nil
			}
		}
		return "", fmt.Errorf("%s without %s", from, to)
	}
	var err error
	if e.old, err = part("<<<<", "===="); err != nil {
		return i, err
	}
	e.new, err = part("====", ">>>>")
	return i, err
}

// Overlay writes the mutated files and the map of them under dir, and gives the map's path. root is the module's.
func (m *Mutant) Overlay(root, dir string) (string, error) {
	texts := map[string]string{}
	for _, e := range m.edits {
		path := filepath.Join(root, e.file)
		if texts[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			return "", fmt.Errorf("mutants: %s: the old text occurs %d times in %s:\n%s", m.ID, n, e.file, e.old)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	over := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range texts {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(over.Replace), filepath.Base(path)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		over.Replace[path] = to
	}
	b, err := json.Marshal(over)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o600)
}

// Kill runs the mutant's tests on the mutated code and gives what they said; ErrSurvived if they passed.
func (m *Mutant) Kill(root, dir string) (string, error) {
	file, err := m.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	args := append([]string{"test", "-count=1", "-overlay=" + file, m.Package, "-run", m.Run}, m.Args...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return string(out), fmt.Errorf("%w: %s passed with %s", ErrSurvived, m.Run, m.ID)
	case !m.Want.Match(out):
		return string(out), fmt.Errorf("mutants: %s failed, but not with %q:\n%s", m.ID, m.Want, out)
	}
	return string(out), nil
}
