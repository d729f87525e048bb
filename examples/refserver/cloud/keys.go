package cloud

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// MasterKey seals what must be kept in clear otherwise: secrets of API keys, user data of machines, secret parameters of jobs.
type MasterKey struct{ aead cipher.AEAD }

// NewMasterKeyText makes the text of a new key file: 64 hex digits.
func NewMasterKeyText() string {
	return hex.EncodeToString(secret()) + "\n"
}

// ParseMasterKey reads 64 hex digits.
func ParseMasterKey(text string) (*MasterKey, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("%w: the master key must be 64 hex digits", drover.ErrConfig)
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	return &MasterKey{aead}, nil
}

func (m *MasterKey) seal(id string, plain []byte) string {
	return base64.StdEncoding.EncodeToString(m.wrap(id, plain))
}

// wrap is seal without the encoding.
func (m *MasterKey) wrap(id string, plain []byte) []byte {
	nonce := make([]byte, m.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return m.aead.Seal(nonce, nonce, plain, []byte(id))
}

// ErrMasterKey means that the secrets in the database were sealed by another master key.
var ErrMasterKey = errors.New("cloud: the master key is not the one that sealed the keys in this database")

func (m *MasterKey) open(id, sealed string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, ErrMasterKey
	}
	return m.unwrap(id, b)
}

// unwrap is the way back from wrap.
func (m *MasterKey) unwrap(id string, b []byte) ([]byte, error) {
	n := m.aead.NonceSize()
	if len(b) < n {
		return nil, ErrMasterKey
	}
	plain, err := m.aead.Open(nil, b[:n], b[n:], []byte(id))
	if err != nil {
		return nil, ErrMasterKey
	}
	return plain, nil
}

const sealedText = "sealed:" // begins a text that sealText made

// sealText seals a text that may be empty.
func (m *MasterKey) sealText(id, text string) string {
	if text == "" {
		return ""
	}
	return sealedText + m.seal(id, []byte(text))
}

// openText is the way back; what was stored before there was sealing is in clear, and what another key sealed is lost.
func (m *MasterKey) openText(id, text string) string {
	sealed, is := strings.CutPrefix(text, sealedText)
	if !is {
		return text
	}
	plain, err := m.open(id, sealed)
	if err != nil {
		return ""
	}
	return string(plain)
}

// Seal seals secret parameters of a job; see job.Cipher.
func (m *MasterKey) Seal(_ context.Context, plain []byte) ([]byte, error) {
	return []byte(m.seal("job", plain)), nil
}

// Open opens what Seal sealed.
func (m *MasterKey) Open(_ context.Context, sealed []byte) ([]byte, error) {
	return m.open("job", string(sealed))
}

// Credentials of an API key.
type Credentials struct{ Key, Secret string }

// UserKey gives the first key of a user, and makes it if there is none, or if rotate asks for another one instead of all there are.
func (c *Cloud) UserKey(ctx context.Context, user string, rotate bool) (k Credentials, err error) {
	err = c.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.count(ctx, "key"); err != nil { // one node at a time
			return err
		}
		var owner, sealed string
		if err := q.NewRaw(`SELECT id FROM rs_user WHERE name = ?`, user).Scan(ctx, &owner); err != nil {
			return fmt.Errorf("cloud: user %q: %w", user, err)
		}
		if rotate {
			if _, err := q.exec(ctx, `DELETE FROM rs_apikey WHERE owner = ?`, owner); err != nil {
				return err
			}
		}
		err := q.NewRaw(`SELECT id, sealed FROM rs_apikey WHERE owner = ? ORDER BY created LIMIT 1`, owner).Scan(ctx, &k.Key, &sealed)
		if err == nil {
			secret, err := c.master.open(k.Key, sealed)
			k.Secret = string(secret)
			return err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("cloud: %w", err)
		}
		k = Credentials{Key: token(), Secret: token()}
		_, err = q.exec(ctx, `INSERT INTO rs_apikey (id, created, account, owner, sealed) VALUES (?, ?, '', ?, ?)`,
			k.Key, q.now, owner, c.master.seal(k.Key, []byte(k.Secret)))
		return err
	})
	return k, err
}

func token() string { return base64.RawURLEncoding.EncodeToString(secret()) }

func secret() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
}

// keyring are all API keys in clear, by key. A look-up costs the same for a known and an unknown one.
type keyring struct {
	mu     sync.Mutex
	by     map[string]grant
	loaded time.Time
}

// grant is what a key is good for.
type grant struct {
	secret []byte
	caller Caller
}

const keysFresh = 10 * time.Second // keys made on other nodes are known after this time

// Key finds the secret of an API key and whose it is; nil if it is unknown.
func (c *Cloud) Key(ctx context.Context, key string) ([]byte, any, error) {
	now := c.env.Clock.Now()
	c.keys.mu.Lock()
	g, old := c.keys.by[key], now.Sub(c.keys.loaded) > keysFresh
	if old {
		c.keys.loaded = now
	}
	c.keys.mu.Unlock()
	if old {
		if err := c.loadKeys(ctx); err != nil {
			return nil, nil, err
		}
		c.keys.mu.Lock()
		g = c.keys.by[key]
		c.keys.mu.Unlock()
	}
	return g.secret, g.caller, nil
}

// Forget has keys read again at the next request.
func (c *Cloud) Forget() {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	c.keys.loaded = time.Time{}
}

func (c *Cloud) loadKeys(ctx context.Context) error {
	var rows []struct {
		ID     string `bun:"id"`
		Owner  string `bun:"owner"`
		Sealed string `bun:"sealed"`
	}
	if err := c.bun.NewRaw(`SELECT id, owner, sealed FROM rs_apikey`).Scan(ctx, &rows); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("cloud: %w", err)
	}
	by := map[string]grant{}
	for _, r := range rows {
		secret, err := c.master.open(r.ID, r.Sealed)
		if err != nil {
			return err
		}
		caller, err := c.caller(ctx, c.bun, r.Owner)
		if err != nil {
			return err
		}
		by[r.ID] = grant{secret, caller}
	}
	if d := c.cfg.DevKey; d.Key != "" {
		caller, err := c.caller(ctx, c.bun, c.inv.now().users[0].ID)
		if err != nil {
			return err
		}
		by[d.Key] = grant{[]byte(d.Secret), caller}
	}
	c.keys.mu.Lock()
	c.keys.by, c.keys.loaded = by, c.env.Clock.Now()
	c.keys.mu.Unlock()
	return nil
}
