package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/drover-cloud/drover/internal/fair"
)

// fence refuses tokens below the highest of their name. It keeps them in a file: a line epoch;store;name for each that is higher
// than those before, on disk before the token passes.
type fence struct {
	stores []string
	adopts bool
	name   string

	turn fair.Lock // of who writes
	f    *os.File
	n    int // lines of f

	mu      sync.Mutex
	highest map[string]token
	adopted string
}

// staleError says why a token does not pass.
type staleError struct{ reason string }

func (e *staleError) Error() string { return e.reason }

func openFence(cfg ServerConfig) (*fence, error) {
	f := &fence{stores: cfg.Stores, adopts: cfg.AdoptStore && len(cfg.Stores) == 0, name: cfg.StateFile, highest: map[string]token{}}
	if f.name == "" {
		return f, nil
	}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("agent: StateFile: %w", err)
	}
	if err := f.compact(); err != nil {
		return nil, fmt.Errorf("agent: StateFile: %w", err)
	}
	return f, nil
}

// load reads the file. A last line without its end was being written in a crash: its token never passed.
func (f *fence) load() error {
	b, err := os.ReadFile(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[:i+1]
	} else {
		b = nil
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		t, err := parseToken(lines.Text())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if n == 1 && f.adopts {
			f.adopted, _ = t.database()
		}
		f.highest[t.name] = t
	}
	return lines.Err()
}

// compact writes the file anew, with a line per name.
func (f *fence) compact() error {
	var b bytes.Buffer
	f.mu.Lock()
	names := make([]string, 0, len(f.highest))
	for n := range f.highest {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintln(&b, f.highest[n])
	}
	f.mu.Unlock()
	tmp := f.name + ".new"
	if err := os.WriteFile(tmp, b.Bytes(), 0o600); err != nil {
		return err
	}
	w, err := os.OpenFile(filepath.Clean(tmp), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(w.Sync(), os.Rename(tmp, f.name), syncDir(filepath.Dir(f.name))); err != nil {
		_ = w.Close()
		return err
	}
	if f.f != nil {
		_ = f.f.Close() // all of it is in the new one
	}
	f.f, f.n = w, len(names)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// pass lets t pass, and keeps it if it is higher than any before of its name.
func (f *fence) pass(ctx context.Context, t token) error {
	if err := f.turn.Lock(ctx); err != nil {
		return err
	}
	defer f.turn.Unlock()
	f.mu.Lock()
	c, err := f.compare(t)
	adopted := f.adopted
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if c > 0 {
		if err := f.append(t); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.adopts && adopted == "" {
		f.adopted, _ = t.database()
	}
	f.highest[t.name] = t
	return nil
}

// stands reports that nothing higher than t, which has passed, has passed since.
func (f *fence) stands(t token) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.compare(t)
	return err == nil
}

// compare is +1 if t is higher than what is known of its name, 0 if it is that. The caller holds f.mu.
func (f *fence) compare(t token) (int, error) {
	id, inc := t.database()
	rank := slices.Index(f.stores, id)
	if own := f.adopts && (f.adopted == "" || f.adopted == id); rank < 0 && !own {
		return 0, &staleError{fmt.Sprintf("database %.64s is not one whose tokens count here", id)}
	}
	old, ok := f.highest[t.name]
	if !ok {
		return 1, nil
	}
	oldID, oldInc := old.database()
	c := cmp.Or(cmp.Compare(rank, slices.Index(f.stores, oldID)), cmp.Compare(inc, oldInc), cmp.Compare(t.epoch, old.epoch))
	if c < 0 {
		return 0, &staleError{fmt.Sprintf("%s has seen %d of %s", cut(t.name, 64), old.epoch, cut(old.store, 64))}
	}
	return c, nil
}

// append writes t to the disk. The caller has the turn.
func (f *fence) append(t token) error {
	if f.name == "" {
		return nil
	}
	if f.f == nil {
		return fs.ErrClosed
	}
	if f.n > 2*len(f.highest)+200 {
		if err := f.compact(); err != nil {
			return err
		}
	}
	_, err := f.f.WriteString(t.String() + "\n")
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil { // part of a line may be there: the file is written anew before the next one
		f.n = 1 << 30
		return err
	}
	f.n++
	return nil
}

func (f *fence) close() error {
	if err := f.turn.Lock(context.Background()); err != nil {
		return err
	}
	defer f.turn.Unlock()
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
