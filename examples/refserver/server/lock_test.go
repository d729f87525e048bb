package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

// One data directory, one SQLite file: one server.
func TestAlone(t *testing.T) {
	t.Parallel()
	t.Run("ref-03 a directory in use", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := start(t, "-data", dir, "-db", "")
		env := filepath.Join(dir, "admin.env")
		before, err := os.ReadFile(env)
		if err != nil {
			t.Fatal(err)
		}
		if err := begin(t, "-data", dir, "-db", ""); err == nil || err.Error() != "-data: "+dir+" is in use by another refserver" {
			t.Errorf("%v", err)
		}
		if err := begin(t, "-db", "sqlite:"+filepath.Join(dir, "drover.db")); err == nil || !strings.HasPrefix(err.Error(), "-db: ") || !strings.Contains(err.Error(), "in use") {
			t.Errorf("the same file from elsewhere: %v", err)
		}
		if after, err := os.ReadFile(env); err != nil || string(after) != string(before) {
			t.Errorf("the credentials file is now %s, %v", after, err)
		}
		if err := begin(t, "-data", dir, "-db", "", "-migrate", "only"); err != nil {
			t.Errorf("-migrate only beside it: %v", err)
		}
		s.stop()
		if err := <-s.done; err != nil {
			t.Fatal(err)
		}
		s.done <- nil // for the cleanup
		start(t, "-data", dir, "-db", "")
	})
	t.Run("the node's name stays", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		var names [2]string
		for i := range names {
			s := start(t, "-data", dir, "-db", "")
			names[i] = s.env.Node
			s.stop()
			if err := <-s.done; err != nil {
				t.Fatal(err)
			}
			s.done <- nil
		}
		if names[0] == "" || names[0] != names[1] {
			t.Error(names)
		}
		if other := start(t, "-data", t.TempDir(), "-db", ""); other.env.Node == names[0] {
			t.Error("two directories, one name")
		}
	})
	t.Run("a name that is taken", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("watches a session for 10 s")
		}
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte(strings.Repeat("0a", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"-db", testkit.Postgres(t).Database(t), "-master-key", key, "-node", "twin"}
		start(t, args...)
		if err := begin(t, args...); err == nil || !strings.HasPrefix(err.Error(), "-node: ") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a name that is none", func(t *testing.T) {
		t.Parallel()
		if err := begin(t, "-node", "a\nb"); err == nil || !strings.HasPrefix(err.Error(), "-node: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	})
}
