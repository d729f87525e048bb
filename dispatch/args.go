package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/drover-cloud/drover/job"
)

// jobArgs is what a command's job keeps: enough to take it through the stages again.
type jobArgs struct {
	Command string            `json:"command"`
	Version string            `json:"version"`
	Params  map[string]string `json:"params,omitempty"` // canonical, without secrets
	Sealed  []byte            `json:"sealed,omitempty"` // the secret ones, by Registry.Cipher
	Entity  string            `json:"entity,omitempty"`
	Print   string            `json:"print"`
}

// argsOf are those of a job; empty ones if it is of no command.
func argsOf(j *job.Job) (a jobArgs) {
	if json.Unmarshal(j.Args, &a) != nil {
		return jobArgs{}
	}
	return a
}

// canonical are the parameters that count: those of the command that this caller may pass, and those of Registry.Known, with
// names in lower case.
func (p *pass) canonical() (open, secret map[string]string) {
	open = map[string]string{}
	put := func(x *param, name, value string) {
		switch {
		case x == nil && !p.reg.knows(name) || x != nil && !p.allowed(x.roles):
		case x != nil && x.secret:
			if secret == nil {
				secret = map[string]string{}
			}
			secret[name] = value
		default:
			open[name] = value
		}
	}
	for name, value := range p.values.plain {
		put(p.cmd.schema.byName[name], name, value)
	}
	for name, list := range p.values.lists {
		x := p.cmd.schema.byName[name]
		if x == nil && !p.reg.knows(name) || x != nil && !p.allowed(x.roles) {
			continue
		}
		for _, e := range list {
			for _, f := range e.fields {
				full := name + "[" + strconv.Itoa(e.index) + "]."
				if x != nil && x.sub != nil {
					if member := x.sub.byName[f.lower]; member != nil {
						put(member, full+f.lower, f.value)
					}
					continue
				}
				open[full+f.sent] = f.value
			}
		}
	}
	return open, secret
}

// fingerprint is what "the same request" means: account, command, version and parameters. Secrets are not in it, since a hash of
// a short one tells it; they are compared by themselves.
func fingerprint(account string, a *jobArgs) string {
	h := sha256.New()
	put := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	put(account)
	put(a.Command)
	put(a.Version)
	for _, name := range slices.Sorted(maps.Keys(a.Params)) {
		put(name)
		put(a.Params[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// idemID makes an id (UUID version 8) of an idempotency key, so that one look by id finds the first request.
func idemID(account, command, idem string) string {
	return derivedID(fmt.Appendf(nil, "%d:%s%d:%s%s", len(account), account, len(command), command, idem))
}

func derivedID(of []byte) string {
	sum := sha256.Sum256(of)
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// seal puts the secrets into the args.
func (s *submission) seal(ctx context.Context) error {
	if len(s.secrets) == 0 {
		return nil
	}
	plain, err := json.Marshal(s.secrets)
	if err != nil {
		return Errorf(Internal, "dispatch: secrets cannot be encoded")
	}
	if s.args.Sealed, err = s.p.reg.Cipher.Seal(ctx, plain); err != nil {
		return Errorf(Internal, "dispatch: secrets cannot be sealed: %w", err)
	}
	return nil
}

// opened are the secrets of stored args.
func (r *Registry) opened(ctx context.Context, a *jobArgs) (secrets map[string]string, err error) {
	if len(a.Sealed) == 0 {
		return nil, nil
	}
	if r.Cipher == nil {
		return nil, Errorf(Internal, "dispatch: secrets cannot be opened: the Registry has no Cipher")
	}
	plain, err := r.Cipher.Open(ctx, a.Sealed)
	if err == nil {
		err = json.Unmarshal(plain, &secrets)
	}
	if err != nil {
		return nil, Errorf(Internal, "dispatch: secrets cannot be opened: %w", err)
	}
	return secrets, nil
}

// open gives all the parameters of stored args.
func (r *Registry) open(ctx context.Context, a *jobArgs) (map[string]string, error) {
	secrets, err := r.opened(ctx, a)
	if err != nil || len(secrets) == 0 {
		return a.Params, err
	}
	all := maps.Clone(secrets)
	maps.Copy(all, a.Params)
	return all, nil
}

func (s *submission) sameSecrets(ctx context.Context, a *jobArgs) (bool, error) {
	secrets, err := s.p.reg.opened(ctx, a)
	return err == nil && maps.Equal(secrets, s.secrets), err
}
