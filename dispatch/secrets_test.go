package dispatch_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// aesGCM is a cipher for secrets.
type aesGCM struct{ cipher.AEAD }

func newCipher(t *testing.T) dispatch.Cipher {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aesGCM{aead}
}

func (a aesGCM) Seal(_ context.Context, plain []byte) ([]byte, error) {
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce)
	return a.AEAD.Seal(nonce, nonce, plain, nil), nil
}

func (a aesGCM) Open(_ context.Context, sealed []byte) ([]byte, error) {
	return a.AEAD.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], nil)
}

type keepEvents struct {
	mu  sync.Mutex
	all []string
}

func (k *keepEvents) Publish(_ context.Context, _ store.Tx, e dispatch.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, fmt.Sprintf("%+v %+v", e, *e.Job))
	return nil
}

func TestSecrets(t *testing.T) {
	type login struct {
		User string          `param:"user,required"`
		Pass dispatch.Secret `param:"pass,required,min=4"`
		Pin  string          `param:"pin,secret,pattern=[a-z0-9-]*"`
		Def  string          `param:"def,secret,default=canary-default"`
		Keys []struct {
			Name string          `param:"name"`
			Key  dispatch.Secret `param:"key"`
		} `param:"keys"`
	}
	const canary = "canary"
	rec, book, events := &spans{}, &logbook{}, &keepEvents{}
	env := drover.Env{Logger: book.logger(), Tracer: rec}
	db := &memory.Store{}
	r := dispatch.Registry{Env: env, Tx: db, Cipher: newCipher(t), Events: events}
	var got login
	m := manager(t, db, func(m *job.Manager) {
		dispatch.Async(&r, m, "login", nil, func(_ context.Context, c login) (string, error) {
			got = c
			return "done", nil
		})
	}, func(c *job.Config) { c.Env = env })
	params := map[string]string{"user": "ann", "Pass": "canary-1", "pin": "canary-2", "keys[0].name": "k", "keys[0].key": "canary-3", "signature": "canary-4"}
	cmd := dispatch.Command{Name: "login", Params: params, Idem: "once", Caller: user("ann")}
	t.Run("dispatch-46 seen by f only", func(t *testing.T) {
		j := final(t, m, accept(t, &r, cmd).JobID)
		if j.State != job.Succeeded || got.Pass.Reveal() != "canary-1" || got.Pin != "canary-2" || got.Keys[0].Key.Reveal() != "canary-3" || got.Def != "canary-default" {
			t.Fatalf("%s %+v", j.State, j.Error)
		}
		row, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		var errs []string
		for _, bad := range []map[string]string{
			{"user": "ann", "pass": "can"}, {"user": "ann", "pass": canary + strings.Repeat("x", 300)}, {"user": "ann", "pass": "canary-1", "pin": "CANARY canary"},
		} {
			_, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "login", Params: bad})
			if err == nil {
				t.Errorf("%v passed", bad)
			}
			errs = append(errs, fmt.Sprintf("%v %+v %#v", err, dispatch.Public(err, true), err))
		}
		catalog, err := json.Marshal(r.Catalog(t.Context(), user("root", "admin")))
		if err != nil {
			t.Fatal(err)
		}
		api, err := r.OpenAPI(dispatch.Info{Title: "t", Version: "1"})
		if err != nil {
			t.Fatal(err)
		}
		rec.mu.Lock()
		var said []string
		for _, s := range rec.all {
			said = append(said, s.name, fmt.Sprint(s.said))
		}
		rec.mu.Unlock()
		for where, text := range map[string]string{
			"job row": string(row), "args": string(j.Args), "log": book.String(), "spans": fmt.Sprint(said), "events": fmt.Sprint(events.all),
			"errors": fmt.Sprint(errs), "catalogue": string(catalog), "OpenAPI": string(api), "the value": fmt.Sprintf("%v %+v", got.Pass, got.Keys),
		} {
			if strings.Contains(strings.ToLower(text), canary) {
				t.Errorf("%s tells: %.2000s", where, text)
			}
		}
		if len(events.all) != 3 || len(said) == 0 {
			t.Errorf("%d events, %d spans", len(events.all), len(said))
		}
	})
	t.Run("dispatch-32 secrets are part of the request", func(t *testing.T) {
		if a := accept(t, &r, cmd); !a.Replayed {
			t.Errorf("%+v", a)
		}
		other := cmd
		other.Params = map[string]string{"user": "ann", "pass": "canary-X", "pin": "canary-2", "keys[0].name": "k", "keys[0].key": "canary-3"}
		if _, err := r.Dispatch(t.Context(), &other); dispatch.CodeOf(err) != dispatch.IdempotencyMismatch {
			t.Error(err)
		}
	})
	t.Run("dispatch-45 secrets without a cipher", func(t *testing.T) {
		if panicText(func() {
			dispatch.Async(new(dispatch.Registry), m, "login2", nil, func(context.Context, login) (int, error) { return 0, nil })
		}) == "" {
			t.Error("no panic")
		}
	})
}
