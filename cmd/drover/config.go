package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// where says which cluster is meant. Flags are stronger than the environment, which is stronger than the file; of one rank the
// server is stronger than the database.
type where struct {
	Server string `json:"server"`
	DB     string `json:"db"`
	Token  string `json:"token"`
}

// cluster finds what is meant; zero: nothing is named.
func (a *app) cluster() (w where, err error) {
	token := os.Getenv("DROVER_TOKEN")
	if a.tokenFile != "" {
		b, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return w, usage("-token-file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	for _, w := range []where{{a.address, a.dsn, token}, {os.Getenv("DROVER_SERVER"), os.Getenv("DROVER_DB"), token}} {
		if w.Server != "" || w.DB != "" {
			return w, nil
		}
	}
	if w, err = configured(); token != "" {
		w.Token = token
	}
	return w, err
}

// server is the API that is named, nil if a database is.
func (a *app) server() (*remote, error) {
	w, err := a.cluster()
	if err != nil || w.Server == "" {
		return nil, err
	}
	return newRemote(a, w.Server, w.Token)
}

// database finds the one that is named; "": none. Commands that need one do not mind a server named beside it.
func (a *app) database() (string, error) {
	dsn := a.dsn
	if dsn == "" && a.address == "" {
		w, err := a.cluster()
		if err != nil {
			return "", err
		}
		dsn = w.DB
	}
	file, ok := strings.CutPrefix(dsn, "@")
	if !ok {
		return dsn, nil
	}
	b, err := os.ReadFile(file) // #nosec G304 G703 -- the user names its own file
	if err != nil {
		return "", usage("-db: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// configured reads ~/.config/drover/config.json, which may hold a password or a token and so is for its owner alone.
func configured() (w where, err error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return w, nil //nolint:nilerr // no home, no file
		}
		dir = filepath.Join(home, ".config")
	}
	path := filepath.Join(dir, "drover", "config.json")
	info, err := os.Stat(path) // #nosec G703 -- see above
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return w, usage("%w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return w, usage("%s has mode %#o: others can read it; run: chmod 600 %s", path, mode, path)
	}
	b, err := os.ReadFile(path) // #nosec G304 G703 -- see above
	if err != nil {
		return w, usage("%w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return where{}, usage("%s: %s", path, strings.TrimPrefix(fmt.Sprint(err), "json: "))
	}
	return w, nil
}
