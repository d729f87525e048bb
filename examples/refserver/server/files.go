package server

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

//go:embed api.sh
var apiScript []byte

// masterKey reads the key file, or makes it if it is the default one.
func (c *Config) masterKey() (*cloud.MasterKey, error) {
	b, err := os.ReadFile(c.MasterKey)
	if errors.Is(err, fs.ErrNotExist) && c.MasterKey == filepath.Join(c.Data, "master.key") {
		b = []byte(cloud.NewMasterKeyText())
		err = os.WriteFile(c.MasterKey, b, 0o600)
	}
	if err != nil {
		return nil, &FlagError{"master-key", err}
	}
	key, err := cloud.ParseMasterKey(string(b))
	if err != nil {
		return nil, &FlagError{"master-key", fmt.Errorf("%s: %w", c.MasterKey, err)}
	}
	return key, nil
}

// welcome writes the credentials file and the script that uses it, if they are missing, and says where they are.
func (s *Server) welcome(k cloud.Credentials) error {
	env := filepath.Join(s.cfg.Data, "admin.env")
	script := filepath.Join(s.cfg.Data, "api.sh")
	text := envFile(s.URL(), k)
	if old, err := os.ReadFile(env); err != nil || !bytes.Equal(old, text) { // the address may have changed
		if err := os.WriteFile(env, text, 0o600); err != nil {
			return &FlagError{"data", err}
		}
	}
	if _, err := os.Stat(script); err != nil {
		if err := os.WriteFile(script, apiScript, 0o700); err != nil { // #nosec G306 -- a script is executable
			return &FlagError{"data", err}
		}
	}
	_, err := fmt.Fprintf(s.cfg.Stdout, "refserver is ready at %s\nkeys of admin: %s\nfirst call:    sh %s listZones\n%s", s.URL(), env, script, s.pageLine())
	return err
}
