package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

// Admin runs the verbs that are no server: passwd USER, keys USER and catalogue, with the flags of a server behind them. done is
// false if args name none of these.
func Admin(ctx context.Context, args []string, getenv func(string) string, seed []byte, in io.Reader, out io.Writer) (done bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "passwd", "keys":
		if len(args) == 0 || strings.HasPrefix(args[0], "-") {
			return true, flagError(verb, "whose? %s USER [flags]", verb)
		}
		user := args[0]
		rotate, args := cutFlag(args[1:], "rotate")
		isNew, args := cutFlag(args, "new")
		cfg, err := Parse(args, getenv, seed, out)
		if err != nil {
			return true, err
		}
		cfg.Stdout = out
		return true, cfg.accounts(ctx, func(c *cloud.Cloud) error {
			if isNew {
				if err := c.AddUser(ctx, user, false); err != nil {
					return err
				}
			}
			if verb == "passwd" {
				return setPassword(ctx, c, user, in)
			}
			return cfg.writeKeys(ctx, c, user, rotate)
		})
	case "catalogue":
		return true, catalogue(ctx, args, seed, out)
	}
	return false, nil
}

// cutFlag takes a boolean flag out of args.
func cutFlag(args []string, name string) (given bool, rest []string) {
	for _, a := range args {
		if a == "-"+name || a == "--"+name {
			given = true
			continue
		}
		rest = append(rest, a)
	}
	return given, rest
}

// accounts opens the database of a server, which may run meanwhile.
func (c *Config) accounts(ctx context.Context, f func(*cloud.Cloud) error) error {
	key, err := c.masterKey()
	if err != nil {
		return err
	}
	db, b, err := c.openDB(ctx)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // what was written is committed
	accounts, err := cloud.OpenAccounts(ctx, cloud.Config{Env: c.Env, DB: db, Bun: b, MasterKey: key})
	if err != nil {
		return &FlagError{"db", err}
	}
	return f(accounts)
}

const minPassword = 12

func setPassword(ctx context.Context, c *cloud.Cloud, user string, in io.Reader) error {
	text, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	password := strings.TrimRight(text, "\r\n")
	if len(password) < minPassword {
		return fmt.Errorf("the password, a line on stdin, needs at least %d bytes", minPassword)
	}
	return c.SetPassword(ctx, user, password)
}

// writeKeys writes the user's key into a file of its own and says where.
func (c *Config) writeKeys(ctx context.Context, all *cloud.Cloud, user string, rotate bool) error {
	k, err := all.UserKey(ctx, user, rotate)
	if err != nil {
		return err
	}
	file := filepath.Join(c.Data, filepath.Base(user)+".env")
	if err := os.WriteFile(file, envFile(c.endpoint(), k), 0o600); err != nil {
		return &FlagError{"data", err}
	}
	_, err = fmt.Fprintf(c.Stdout, "keys of %s: %s\n", user, file)
	return err
}

// endpoint is where the server of this directory answers, as far as it has said so.
func (c *Config) endpoint() string {
	text, _ := os.ReadFile(filepath.Join(c.Data, "admin.env")) // there is none before the first start
	for line := range strings.Lines(string(text)) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "DROVER_ENDPOINT="); ok {
			return strings.TrimSuffix(url, "/client/api")
		}
	}
	return "http://" + c.Listen
}

func envFile(url string, k cloud.Credentials) []byte {
	return fmt.Appendf(nil, "DROVER_ENDPOINT=%s\nDROVER_API_KEY=%s\nDROVER_API_SECRET=%s\n", url+"/client/api", k.Key, k.Secret)
}

// catalogue writes what every face offers, from the one catalogue that they have.
func catalogue(ctx context.Context, args []string, seed []byte, out io.Writer) error {
	fs := flag.NewFlagSet("catalogue", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	asJSON, asOpenAPI := fs.Bool("json", false, ""), fs.Bool("openapi", false, "")
	_ = fs.Bool("md", true, "")
	if err := fs.Parse(args); err != nil {
		return badFlag(fs, err)
	}
	dir, err := os.MkdirTemp("", "refserver")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing of worth is in it
	cfg, err := Parse([]string{"-data", dir, "-db", "sqlite::memory:", "-listen", "127.0.0.1:0"}, func(string) string { return "" }, seed, out)
	if err != nil {
		return err
	}
	s, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.close()
	defer s.listener.Close() //nolint:errcheck // it accepted nothing
	r := s.registry
	var text []byte
	switch {
	case *asOpenAPI:
		text, err = r.OpenAPI(dispatch.Info{Title: "refserver", Version: "1"})
	case *asJSON:
		text, err = json.MarshalIndent(r.Catalog(ctx, cloud.System), "", " ")
	default:
		text = markdown(r.Catalog(ctx, cloud.System))
	}
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", strings.TrimSpace(string(text)))
	}
	return err
}

func markdown(commands []dispatch.CommandInfo) []byte {
	text := []byte("| command | mode | parameters | what it does |\n|---|---|---|---|\n")
	for _, c := range commands {
		var params []string
		for _, p := range c.Params {
			name := p.Name
			if p.Required {
				name += "!"
			}
			params = append(params, name)
		}
		text = fmt.Appendf(text, "| %s | %s | %s | %s |\n", c.Name, c.Mode, strings.Join(params, " "), c.Doc)
	}
	return text
}
