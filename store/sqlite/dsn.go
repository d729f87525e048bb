package sqlite

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// DSN is the data source name for path by the driver modernc.org/sqlite, with what this store wants of each connection; see
// the package doc. A missing file is made, with mode 0600, which SQLite gives to the files beside it too; its directory must exist.
// ":memory:" is answered as it is.
func DSN(path string) (string, error) {
	const want = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	if path == ":memory:" {
		return "file::memory:?_txlock=immediate", nil
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%w: path: empty, or with a NUL byte", ErrConfig)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- the host names its own file
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, os.ErrExist):
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	return "file:" + (&url.URL{Path: filepath.ToSlash(abs)}).EscapedPath() + "?" + want, nil
}
