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

// Owner is an account with its user and domain; it is the caller of commands.
type Owner struct {
	Account   string `json:"account" bun:"account"`
	AccountID string `json:"accountid" bun:"account_id"`
	Domain    string `json:"domain" bun:"domain"`
	DomainID  string `json:"domainid" bun:"domain_id"`
	Username  string `json:"username" bun:"username"`
	UserID    string `json:"userid" bun:"user_id"`
	Node      string `json:"-" bun:"-"` // that took the request
}

// Identity travels with the jobs of the owner's commands.
func (o Owner) Identity() map[string]string {
	return map[string]string{
		"account": o.Account, "accountid": o.AccountID, "domain": o.Domain, "domainid": o.DomainID,
		"username": o.Username, "userid": o.UserID, "roles": "admin", "node": o.Node,
	}
}

// restore makes the owner again when a job runs.
func restore(_ context.Context, id map[string]string) (any, error) {
	return Owner{
		Account: id["account"], AccountID: id["accountid"], Domain: id["domain"], DomainID: id["domainid"],
		Username: id["username"], UserID: id["userid"], Node: id["node"],
	}, nil
}

// MasterKey seals secrets that must be kept in clear otherwise: those of API keys.
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
	nonce := make([]byte, m.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.StdEncoding.EncodeToString(m.aead.Seal(nonce, nonce, plain, []byte(id)))
}

// ErrMasterKey means that the secrets in the database were sealed by another master key.
var ErrMasterKey = errors.New("cloud: the master key is not the one that sealed the keys in this database")

func (m *MasterKey) open(id, sealed string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(b) < m.aead.NonceSize() {
		return nil, ErrMasterKey
	}
	n := m.aead.NonceSize()
	plain, err := m.aead.Open(nil, b[:n], b[n:], []byte(id))
	if err != nil {
		return nil, ErrMasterKey
	}
	return plain, nil
}

// Credentials of an API key.
type Credentials struct{ Key, Secret string }

// adminKey gives the first key of the owner, and makes it if there is none.
func (c *Cloud) adminKey(ctx context.Context) (k Credentials, err error) {
	err = c.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.count(ctx, "key"); err != nil { // one node at a time
			return err
		}
		var sealed string
		err := q.NewRaw(`SELECT id, sealed FROM rs_apikey WHERE account = ? ORDER BY created LIMIT 1`, c.inv.owner.Account).Scan(ctx, &k.Key, &sealed)
		if err == nil {
			secret, err := c.master.open(k.Key, sealed)
			k.Secret = string(secret)
			return err
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("cloud: %w", err)
		}
		k = Credentials{Key: token(), Secret: token()}
		_, err = q.exec(ctx, `INSERT INTO rs_apikey (id, created, account, sealed) VALUES (?, ?, ?, ?)`,
			k.Key, q.now, c.inv.owner.Account, c.master.seal(k.Key, []byte(k.Secret)))
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
	by     map[string][]byte
	loaded time.Time
}

const keysFresh = 10 * time.Second // keys made on other nodes are known after this time

// Key finds the secret of an API key and whose it is; nil if it is unknown.
func (c *Cloud) Key(ctx context.Context, key string) ([]byte, any, error) {
	now := c.env.Clock.Now()
	c.keys.mu.Lock()
	secret, old := c.keys.by[key], now.Sub(c.keys.loaded) > keysFresh
	if old {
		c.keys.loaded = now
	}
	c.keys.mu.Unlock()
	if old {
		if err := c.loadKeys(ctx); err != nil {
			return nil, nil, err
		}
		c.keys.mu.Lock()
		secret = c.keys.by[key]
		c.keys.mu.Unlock()
	}
	owner := c.inv.owner
	owner.Node = c.env.Node
	return secret, owner, nil
}

func (c *Cloud) loadKeys(ctx context.Context) error {
	var rows []struct {
		ID     string `bun:"id"`
		Sealed string `bun:"sealed"`
	}
	if err := c.bun.NewRaw(`SELECT id, sealed FROM rs_apikey`).Scan(ctx, &rows); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("cloud: %w", err)
	}
	by := map[string][]byte{}
	for _, r := range rows {
		secret, err := c.master.open(r.ID, r.Sealed)
		if err != nil {
			return err
		}
		by[r.ID] = secret
	}
	if d := c.cfg.DevKey; d.Key != "" {
		by[d.Key] = []byte(d.Secret)
	}
	c.keys.mu.Lock()
	c.keys.by, c.keys.loaded = by, c.env.Clock.Now()
	c.keys.mu.Unlock()
	return nil
}
